"""`descend.optim` inside the packages that train PyTorch networks, and in several processes."""

import subprocess
import sys
import warnings

import pytest

torch = pytest.importorskip("torch")

from tests.optim.training import points  # noqa: E402

from descend import optim  # noqa: E402

X, Y = points(torch.float32)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def batches():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=50)


def imported(name):
    """An optional package; what it warns about on the way is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning(tmp_path):
    """A Lightning trainer steps, schedules, saves and resumes our AdamW as it does torch's."""
    lightning = imported("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self, library):
            super().__init__()
            self.library, self.net = library, network()

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            optimizer = self.library.AdamW(self.parameters(), lr=0.05)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]

    def trainer(epochs):
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    results = []
    for library in (optim, torch.optim):
        first = trainer(3)
        first.fit(Module(library), batches())
        first.save_checkpoint(tmp_path / "half.ckpt")
        module = Module(library)
        trainer(6).fit(module, batches(), ckpt_path=tmp_path / "half.ckpt")
        results.append(list(module.net.parameters()))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_accelerate(tmp_path):
    """Accelerate prepares, steps with accumulated gradients, saves and resumes our AdamW as it does torch's."""
    accelerate = imported("accelerate")
    results = []
    for library in (optim, torch.optim):
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = network()
        optimizer = library.AdamW(model.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        model, optimizer, data, scheduler = accelerator.prepare(model, optimizer, batches(), scheduler)

        def epochs(number, accelerator=accelerator, model=model, optimizer=optimizer, data=data, scheduler=scheduler):
            for _ in range(number):
                for x, y in data:
                    with accelerator.accumulate(model):
                        loss = torch.nn.functional.cross_entropy(model(x), y)
                        accelerator.backward(loss)
                        accelerator.clip_grad_norm_(model.parameters(), 1.0)
                        optimizer.step()
                        scheduler.step()
                        optimizer.zero_grad()

        epochs(3)
        accelerator.save_state(tmp_path / library.__name__)
        epochs(2)
        accelerator.load_state(tmp_path / library.__name__)
        epochs(3)
        results.append([p.detach().clone() for p in model.parameters()])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_skorch(tmp_path):
    """A skorch classifier takes our AdamW and its arguments, is copied and pickled, and predicts what torch's does."""
    skorch = imported("skorch")
    import pickle

    from sklearn.base import clone

    results = []
    for library in (optim, torch.optim):
        net = skorch.NeuralNetClassifier(
            network(),
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=library.AdamW,
            lr=0.05,
            optimizer__betas=(0.8, 0.99),
            optimizer__param_groups=[("0.*", {"weight_decay": 0.0})],
            max_epochs=8,
            train_split=None,
            iterator_train__shuffle=False,
            verbose=0,
        )
        net = clone(net).fit(X, Y)
        net = pickle.loads(pickle.dumps(net)).partial_fit(X, Y)
        net.save_params(f_params=tmp_path / "net.pt", f_optimizer=tmp_path / "optimizer.pt")
        net.load_params(f_params=tmp_path / "net.pt", f_optimizer=tmp_path / "optimizer.pt")
        results.append(torch.tensor(net.partial_fit(X, Y).predict_proba(X)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    assert (results[0].argmax(1) == Y).float().mean() > 0.9


DISTRIBUTED = """
import sys, torch, descend
import torch.distributed as dist
import torch.multiprocessing as mp

def work(rank, meeting, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    found = []
    for kind in (descend.optim.AdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
        model = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = kind(model.parameters(), lr=0.01)
        torch.manual_seed(1 + rank)
        for _ in range(20):
            optimizer.zero_grad()
            x = torch.randn(16, 4, dtype=torch.float64)
            ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
            optimizer.step()
        found.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)
    torch.save(found[0], f"{results}/{rank}")
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1] + "/meeting", sys.argv[1]), nprocs=2)
    one, other = (torch.load(f"{sys.argv[1]}/{rank}") for rank in range(2))
    assert all(map(torch.equal, one, other))
"""


@pytest.mark.slow
def test_distributed_data_parallel(tmp_path):
    """Two processes that share gradients end with the same parameters, which are those that torch's AdamW gives."""
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    script = tmp_path / "distributed.py"
    script.write_text(DISTRIBUTED)
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
