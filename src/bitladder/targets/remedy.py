"""What helps where sums of 16 bits saturate, in words."""

REMEDY = "export with weights: auto or uint8, or set session.x64quantprecision=1 wherever it runs"
