"""Functions of the user's by ``package.module:function``: what they consist of, and calling them.

Nothing is imported to see what a function consists of, so that a study is planned without torch.
"""

from bitladder.user_code.installed import as_loaded
from bitladder.user_code.load import differs, import_function
from bitladder.user_code.source import Source, is_import_path, read_source
from bitladder.user_code.text import one_line

__all__ = [
    "Source",
    "as_loaded",
    "differs",
    "import_function",
    "is_import_path",
    "one_line",
    "read_source",
]
