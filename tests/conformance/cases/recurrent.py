"""Recurrent layers over the rows or columns of features."""

from torch import nn

from conformance.case import Body, Family

family = Family("recurrent")
C = 8
SMALL = (3, 4, 6)


def _sequence(x):
    return x.mean(2).permute(0, 2, 1)  # (N, W, C)


family.add(
    "lstm",
    "LSTM",
    lambda: Body(lambda m, x: m.rnn(_sequence(x))[0], rnn=nn.LSTM(C, 6, batch_first=True)),
    shape=SMALL,
)
family.add(
    "lstm_bidirectional",
    "LSTM",
    lambda: Body(
        lambda m, x: m.rnn(_sequence(x))[0], rnn=nn.LSTM(C, 6, batch_first=True, bidirectional=True)
    ),
    shape=SMALL,
)
family.add(
    "lstm_two_layers",
    "LSTM",
    lambda: Body(lambda m, x: m.rnn(_sequence(x))[0], rnn=nn.LSTM(C, 6, 2, batch_first=True)),
    shape=SMALL,
)
family.add(
    "lstm_last",
    "LSTM",
    lambda: Body(lambda m, x: m.rnn(_sequence(x))[0][:, -1], rnn=nn.LSTM(C, 6, batch_first=True)),
    shape=SMALL,
)
family.add(
    "lstm_state",
    "LSTM",
    lambda: Body(
        lambda m, x: m.rnn(_sequence(x))[1][0].squeeze(0), rnn=nn.LSTM(C, 6, batch_first=True)
    ),
    shape=SMALL,
)
family.add(
    "lstm_time_first",
    "LSTM",
    lambda: Body(
        lambda m, x: m.rnn(_sequence(x).transpose(0, 1))[0].transpose(0, 1), rnn=nn.LSTM(C, 6)
    ),
    shape=SMALL,
)
family.add(
    "gru",
    "GRU",
    lambda: Body(lambda m, x: m.rnn(_sequence(x))[0], rnn=nn.GRU(C, 6, batch_first=True)),
    shape=SMALL,
)
family.add(
    "gru_bidirectional",
    "GRU",
    lambda: Body(
        lambda m, x: m.rnn(_sequence(x))[0], rnn=nn.GRU(C, 6, batch_first=True, bidirectional=True)
    ),
    shape=SMALL,
)
family.add(
    "rnn",
    "RNN",
    lambda: Body(lambda m, x: m.rnn(_sequence(x))[0], rnn=nn.RNN(C, 6, batch_first=True)),
    shape=SMALL,
)
family.add(
    "lstm_cell",
    "LSTMCell",
    lambda: Body(lambda m, x: m.cell(x.mean((2, 3)))[0], cell=nn.LSTMCell(C, 6)),
    shape=SMALL,
)
