"""Streams in PyTorch and JAX: tensors over the same memory, loaders, workers, states."""

import sys

import numpy as np
import pytest

import astropile
from astropile.errors import MissingExtraError, SampleError
from astropile.streams import Mixture, Stream
from hftrees import trees  # noqa: F401

torch = pytest.importorskip("torch")

from astropile.streams.torch import StreamDataset, StreamLoader, to_device  # noqa: E402

ORDERS = [{"shuffle": "full"}, {"shuffle": "blocks", "block_rows": 5, "pool_blocks": 3}]


@pytest.fixture(scope="module")
def left(trees):  # noqa: F811
    return astropile.open_catalog(trees.left)


def make(catalog, **options):
    columns = ["ID", "FLUX", "WAVE", "GOOD", "LC_TIME", "NAME"]
    return Stream(catalog, columns, **{"batch_size": 8, "format": "torch", "seed": 4, **options})


def ids_of(batches):
    return [batch["ID"].tolist() for batch in batches]


def test_tensors_of_the_stored_dtypes(left):
    """Numbers and booleans are tensors, the same values; text and ragged columns are numpy's."""
    batch = next(iter(make(left, shuffle=None)))
    expected = left.take(np.arange(8))
    for name in ("ID", "FLUX", "GOOD"):
        assert isinstance(batch[name], torch.Tensor)
        assert np.array_equal(batch[name].numpy(), expected[name])
    assert batch["ID"].dtype == torch.int64
    assert batch["WAVE"].shape == (8, len(expected["WAVE"]))
    assert torch.equal(batch["WAVE"][3], torch.from_numpy(expected["WAVE"].copy()))
    assert np.array_equal(batch["NAME"], expected["NAME"])
    assert np.array_equal(batch["LC_TIME"][5], expected["LC_TIME"][5])


def test_tensors_share_the_memory(left):
    """The tensors of an epoch lie in prefetch + 1 places."""
    places = {
        batch["FLUX"].data_ptr() for batch in make(left, prefetch=2) if len(batch["FLUX"]) == 8
    }
    assert len(places) == 3


def test_pinned_where_there_is_a_gpu(left):
    """Pinned memory is asked for; without a GPU the same values come in ordinary memory."""
    plain, pinned = make(left), make(left, pin_memory=True)
    for one, other in zip(plain, pinned, strict=True):
        assert torch.equal(one["FLUX"], other["FLUX"])
        assert other["FLUX"].is_pinned() == torch.cuda.is_available()


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_give_the_same_batches(left, order, workers):
    """In the same order as threads, epoch after epoch."""
    expected = make(left, **order)
    loader = StreamLoader(make(left, **order), num_workers=workers)
    for _ in range(2):
        batches = list(loader) if workers else None
        found = ids_of(batches) if workers else ids_of(loader)
        assert found == ids_of(expected)
    assert len(loader) == len(found)
    assert loader.stream.epoch == 2
    if workers:
        # A batch of a worker has memory of its own: all of them can be kept.
        fluxes = torch.cat([batch["FLUX"] for batch in batches])
        rows = np.concatenate([batch["ID"] for batch in batches])
        whole = left.take(np.arange(len(left)), ["ID", "FLUX"])
        order_of = np.argsort(whole["ID"])
        places = order_of[np.searchsorted(whole["ID"][order_of], rows)]
        assert np.array_equal(fluxes.numpy(), whole["FLUX"][places])


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (2, 1)])
def test_resumed_with_other_workers(left, before, after):
    """A state tells what was given out, not what workers had read: any number goes on."""
    expected = ids_of(make(left))
    loader = StreamLoader(make(left), num_workers=before)
    reading = iter(loader)
    first = [next(reading)["ID"].tolist() for _ in range(3)]
    state = loader.state_dict()
    reading.close()
    other = StreamLoader(make(left), num_workers=after)
    other.load_state_dict(state)
    assert first + ids_of(other) == expected
    assert other.stream.epoch == 1


def test_a_plain_loader(left):
    """`DataLoader` over a `StreamDataset`, with and without workers."""
    for workers in (0, 2):
        dataset = StreamDataset(make(left))
        loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)
        assert ids_of(loader) == ids_of(make(left))
        dataset.stream.set_epoch(1)
        second = make(left)
        second.set_epoch(1)
        assert ids_of(loader) == ids_of(second)


@pytest.mark.filterwarnings("ignore:.set_vital. is deprecated:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader(left, workers):
    """The `StatefulDataLoader` of torchdata goes on exactly, into the next epoch."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader():
        return stateful.StatefulDataLoader(
            StreamDataset(make(left)), batch_size=None, num_workers=workers
        )

    expected = ids_of(make(left))
    for done in (1, 4):
        first = loader()
        reading = iter(first)
        seen = [next(reading)["ID"].tolist() for _ in range(done)]
        state = first.state_dict()
        del reading
        again = loader()
        again.load_state_dict(state)
        assert seen + ids_of(again) == expected


def test_mixtures_in_workers(left, trees):  # noqa: F811
    """Names and batches come as from threads, and so do states."""
    right = astropile.open_catalog(trees.right)

    def mixed():
        return Mixture({"a": make(left), "b": make(right)}, {"a": 2, "b": 1}, until="all")

    expected = [(name, batch["ID"].tolist()) for name, batch in mixed()]
    loader = StreamLoader(mixed(), num_workers=2)
    reading, found = iter(loader), []
    for _ in range(5):
        name, batch = next(reading)
        found.append((name, batch["ID"].tolist()))
    state = loader.state_dict()
    reading.close()
    again = StreamLoader(mixed(), num_workers=0)
    again.load_state_dict(state)
    found += [(name, batch["ID"].tolist()) for name, batch in again]
    assert found == expected


def test_an_error_in_a_worker(left):
    """Reaches the loop."""

    def fail(batch):
        raise ValueError("no such filter")

    with pytest.raises(ValueError, match="no such filter"):
        list(StreamLoader(make(left, transform=fail), num_workers=1))


def test_to_a_device(left):
    """The same values in memory of their own; what is no tensor stays."""
    kept = list(to_device(make(left), "cpu"))
    assert [batch["ID"].tolist() for batch in kept] == ids_of(make(left))
    for one, batch in zip(make(left), kept, strict=True):
        assert torch.equal(one["FLUX"], batch["FLUX"])
        assert np.array_equal(one["NAME"], batch["NAME"])
    named = list(to_device(Mixture({"a": make(left)}), "cpu"))
    assert [name for name, _ in named] == ["a"] * len(kept)
    assert torch.equal(named[0][1]["FLUX"], kept[0]["FLUX"])


def test_a_loader_that_cannot_be(left):
    """Workers that stay from one epoch to the next are refused with the reason."""
    with pytest.raises(SampleError, match="persistent_workers: expected False"):
        StreamLoader(make(left), num_workers=1, persistent_workers=True)
    state = {"begin": make(left).state_dict(), "given": 1, "workers": 3}
    with pytest.raises(SampleError, match="num_workers: expected 3, found 0"):
        StreamDataset(make(left)).load_state_dict(state)


def test_a_step_of_training(left):
    """A model learns from the batches: the loss of a linear fit goes down over ten epochs."""
    torch.manual_seed(0)
    stream = Stream(left, ["A_G", "Z", "A_R"], batch_size=8, format="torch")
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    losses = []
    for _ in range(10):
        for batch in StreamLoader(stream):
            target = batch["A_G"] - 2 * batch["A_R"]
            inputs = torch.stack([batch["A_G"], batch["A_R"]], 1)
            loss = torch.mean((model(inputs)[:, 0] - target) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.1 * np.mean(losses[:8])


def test_without_torch(left, monkeypatch):
    """The extra to install is named."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"astropile\[torch\]"):
        next(iter(make(left)))
    monkeypatch.delitem(sys.modules, "astropile.streams.torch")
    with pytest.raises(MissingExtraError, match=r"astropile\[torch\]"):
        import astropile.streams.torch  # noqa: F401


def test_jax_keeps_what_it_was_given(left):
    """JAX may use an array's memory as it is: with `copy` no batch changes behind it."""
    jnp = pytest.importorskip("jax.numpy")
    stream = Stream(left, ["ID", "FLUX"], batch_size=8, copy=True)
    kept = [jnp.asarray(batch["FLUX"]) for batch in stream]
    expected = [batch["FLUX"].copy() for batch in Stream(left, ["ID", "FLUX"], batch_size=8)]
    assert all(np.array_equal(a, b) for a, b in zip(kept, expected, strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("done", [3, 11])
def test_lightning_goes_on_in_the_middle_of_an_epoch(left, tmp_path, done):
    """With nothing but the loader, as the page on training shows: no batch twice, none left out."""
    lightning = pytest.importorskip("pytorch_lightning")

    class Model(lightning.LightningModule):
        def __init__(self, stop=None):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.stop, self.seen = stop, []

        def training_step(self, batch):
            if len(self.seen) == self.stop:
                raise InterruptedError
            self.seen.append(batch["ID"].tolist())
            return self.layer(batch["A_G"][:, None]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    def fit(model, **options):
        checkpoint = lightning.callbacks.ModelCheckpoint(
            tmp_path, filename=f"of-{model.stop}", every_n_train_steps=1
        )
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=2,
            logger=False,
            callbacks=[checkpoint],
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        stream = Stream(left, ["ID", "A_G"], batch_size=8, format="torch", last="drop")
        trainer.fit(model, StreamLoader(stream), **options)
        return model.seen

    whole = fit(Model())
    assert len(whole) == 2 * (len(left) // 8)
    stopped = Model(done)
    with pytest.raises(InterruptedError):
        fit(stopped)
    rest = fit(Model(), ckpt_path=tmp_path / f"of-{done}.ckpt")
    assert stopped.seen + rest == whole
