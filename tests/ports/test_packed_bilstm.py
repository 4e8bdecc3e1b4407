"""A BiLSTM tagger and classifier over packed sequences, with weights trained in torch."""

import numpy as np
import pytest
from modules import APIS

from jaxrnn import lengths_to_mask
from jaxrnn.sequences import last_output

pytestmark = pytest.mark.usefixtures("quick_compilation")
LENGTHS = np.array([7, 3, 5, 1])
SIZE, UNITS = 6, 5
XS = np.random.default_rng(0).normal(size=(4, 7, SIZE)).astype(np.float32)


@pytest.mark.parity
@pytest.mark.parametrize("api", APIS, ids=lambda a: a.name)
def test_the_bilstm_with_packed_sequences_is_that_of_torch(api):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(SIZE, UNITS, 2, batch_first=True, bidirectional=True)
    lengths = torch.as_tensor(LENGTHS)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.as_tensor(XS), lengths, batch_first=True, enforce_sorted=False
    )
    packed_output, (h_n, c_n) = theirs(packed)
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_output, batch_first=True)

    ours = api("LSTM", SIZE, UNITS, 2, batch_first=True, bidirectional=True)
    ours.load_torch(theirs.state_dict())
    assert ours.module.bidirectional and ours.module.num_layers == theirs.num_layers
    output, state = ours(XS, lengths=LENGTHS)
    np.testing.assert_allclose(output, padded.detach(), atol=1e-6)
    np.testing.assert_allclose(state.h_n, h_n.detach(), atol=1e-6)
    np.testing.assert_allclose(state.c_n, c_n.detach(), atol=1e-6)
    # what a classifier reads: the last state of each direction
    both = np.concatenate([state.h_n[-2], state.h_n[-1]], axis=-1)
    mask = lengths_to_mask(LENGTHS, T=7)
    read = last_output(np.moveaxis(output, 1, 0), mask, bidirectional=True)
    np.testing.assert_allclose(read, both, atol=1e-6)
    # what a tagger reads: the valid steps, here sequence by sequence
    theirs_by_row = [row[:length] for row, length in zip(padded.detach(), LENGTHS, strict=True)]
    np.testing.assert_allclose(output[mask.T], np.concatenate(theirs_by_row), atol=1e-6)


@pytest.mark.parametrize("api", APIS, ids=lambda a: a.name)
def test_each_sequence_of_the_batch_is_as_if_it_were_alone(api):
    ours = api("LSTM", SIZE, UNITS, 2, batch_first=True, bidirectional=True)
    dirty = np.where(np.arange(7)[:, None] < LENGTHS[:, None, None], XS, np.nan)
    output, state = ours(dirty, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        alone, last = ours(XS[row, :length])
        np.testing.assert_allclose(output[row, :length], alone, atol=1e-6)
        np.testing.assert_allclose(state.c_n[:, row], last.c_n, atol=1e-6)
        assert not output[row, length:].any()
