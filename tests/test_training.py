"""Training: what it learns, what it leaves behind, and that it resumes as if never stopped."""

import json
import shutil
import signal

import numpy as np
import pytest
from conftest import ROOT, run_command
from tiny_data import write_dataset
from tiny_training import final_weights, kill_after_checkpoint, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), 240)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "r"
    code, out, err = train(data, run, "--epochs", "10", "--json")
    assert code == 0, err
    return run, json.loads(out), err


def test_it_learns_shapes_and_colours_far_beyond_the_prior(trained):
    _, result, err = trained
    assert "device: CPU" in err
    assert result["macro_ap"] > 2 * result["prior_macro_ap"]
    assert result["macro_auc"] > 0.85


def test_the_run_folder_opens_and_agrees_with_itself(trained, data):
    from e6tag.runs import open_run

    run, result, _ = trained
    opened = open_run(run)
    assert opened.image_size == 32
    assert opened.info["metrics"] == result
    assert opened.info["data"]["num_train"] == 192
    assert opened.info["config"]["loss"] == "bce"
    assert len(opened.thresholds()) == len(opened.vocabulary)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 11))
    assert max(line["macro_ap"] for line in lines) == result["macro_ap"]


def test_the_exported_model_scores_as_validation_said(trained, data):
    import onnxruntime
    from sklearn.metrics import average_precision_score

    from e6tag.batches import Batches
    from e6tag.session import MIN_VAL_POSITIVES
    from e6tag.shards import open_dataset

    run, result, _ = trained
    session = onnxruntime.InferenceSession(str(run / "model.onnx"))
    batches = list(Batches(open_dataset(data), "val", 32, 16).plain(1))
    labels = np.concatenate([truth for _, truth in batches])
    scores = np.concatenate(
        [session.run(["probabilities"], {"pictures": p.astype(np.float32)})[0] for p, _ in batches]
    )
    kept = labels.sum(axis=0) >= MIN_VAL_POSITIVES
    ap = average_precision_score(labels[:, kept], scores[:, kept], average="macro")
    assert ap == pytest.approx(result["macro_ap"], abs=1e-6)


def test_the_keras_model_loads_without_executing_code_and_equals_the_exported_one(trained):
    import keras
    import onnxruntime

    import e6tag.models  # noqa: F401  (registers the layers)

    run, _, _ = trained
    model = keras.models.load_model(run / "model.keras", safe_mode=True)
    pictures = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(run / "model.onnx"))
    for name in ("probabilities", "vector", "uncertainty"):
        (theirs,) = session.run([name], {"pictures": pictures})
        np.testing.assert_allclose(model(pictures)[name], theirs, atol=1e-4)


def test_a_finished_run_without_its_checkpoints_is_not_trained_again(trained, data, tmp_path):
    run, _, _ = trained
    shutil.copytree(run, tmp_path / "r", ignore=shutil.ignore_patterns("checkpoints"))
    code, _, err = train(data, tmp_path / "r", "--epochs", "10")
    assert code == 0, err
    assert "trained already" in err


def test_the_data_is_found_from_any_folder(trained, data, tmp_path):
    run, _, _ = trained
    done = run_command([ROOT / "eval.py", "--run", run, "--min-positives", "1"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_finished_run_is_not_trained_again(trained, data):
    run, _, _ = trained
    before = (run / "model.onnx").stat().st_mtime_ns
    code, _, err = train(data, run, "--epochs", "10", "--json")
    assert code == 0
    assert "trained already" in err
    assert (run / "model.onnx").stat().st_mtime_ns == before


def test_other_options_in_the_same_folder_are_refused_and_named(trained, data):
    run, _, _ = trained
    code, _, err = train(data, run, "--epochs", "10", "--loss", "focal")
    assert code == 2
    assert "loss bce, not focal" in err


def test_other_data_in_the_same_folder_is_refused(trained, tmp_path):
    run, _, _ = trained
    other = write_dataset(tmp_path / "other", 60)
    code, _, err = train(other, run, "--epochs", "10")
    assert code == 2
    assert "other data" in err


EVERYTHING = [
    "--schedule", "cosine", "--warmup", "0.1", "--accumulate", "3", "--patience", "3",
    "--colour-jitter", "0.2", "--trivial-augment", "--mixup", "0.4", "--cutmix", "1",
    "--repeat-factor", "0.3", "--progressive", "0.5", "--optimizer",
]  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--batch-parts", "2"],
        pytest.param([*EVERYTHING, "lamb"], marks=pytest.mark.slow),
        pytest.param([*EVERYTHING, "muon"], marks=pytest.mark.slow),
        pytest.param([*EVERYTHING, "lion"], marks=pytest.mark.slow),
        pytest.param(["--optimizer", "nesterov", "--anneal", "linear-annihilate",
                      "--learning-rate", "0.01"], marks=pytest.mark.slow),
        pytest.param(["--block", "bottleneck", "--filters", "16", "24", "--max-stride", "4",
                      "--freeze", "1", "--optimizer", "sgd", "--momentum", "0.99", "0.99",
                      "--learning-rate", "1e-3", "--div-factor", "40", "--final-div-factor", "1",
                      ], marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_run_killed_in_mid_epoch_ends_with_the_weights_of_one_that_was_not(data, tmp_path, more):
    options = ["--epochs", "3", "--checkpoint-seconds", "0.2", *more]
    code, _, err = train(data, tmp_path / "whole", *options)
    assert code == 0, err
    # Where pictures grow, after they did.
    least = 20 if "--progressive" in more else 1
    code, _, _ = kill_after_checkpoint(
        data, tmp_path / "killed", signal.SIGKILL, *options, least=least
    )
    assert code == -signal.SIGKILL
    code, _, err = train(data, tmp_path / "killed", *options)
    assert code == 0, err
    assert "resuming at step" in err
    steps, whole = final_weights(tmp_path / "whole")
    again, resumed = final_weights(tmp_path / "killed")
    assert steps == again >= 3 * (192 // 16)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)


@pytest.mark.slow
def test_it_stops_where_nothing_gets_better_and_keeps_the_best(data, tmp_path):
    options = ["--epochs", "40", "--patience", "2", "--optimizer", "sgd", "--json"]
    options += ["--learning-rate", "0.5", "--schedule", "constant"]
    code, out, err = train(data, tmp_path / "r", *options)
    assert code == 0, err
    lines = [json.loads(x) for x in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    scores = [line["macro_ap"] for line in lines]
    assert len(scores) < 40
    assert "stopped after" in err
    best = json.loads(out)
    assert best["macro_ap"] == max(scores)
    assert scores.index(max(scores)) == len(scores) - 3
    assert best["epoch"] >= len(scores) - 2
    # Killed before run.json was written, it does not train on.
    (tmp_path / "r" / "run.json").unlink()
    code, again, err = train(data, tmp_path / "r", *options)
    assert code == 0, err
    assert json.loads(again) == best
    assert len((tmp_path / "r" / "metrics.jsonl").read_text().splitlines()) == len(scores)


@pytest.mark.slow
def test_growing_pictures_are_measured_and_exported_at_the_full_size(data, tmp_path):
    from e6tag.runs import open_run

    options = ["--image-size", "64", "--progressive", "0.5", "--epochs", "6", "--json"]
    code, out, err = train(data, tmp_path / "r", *options)
    assert code == 0, err
    lines = [json.loads(x) for x in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [line["image_size"] for line in lines] == [32, 32, 48, 48, 64, 64]
    assert json.loads(out)["image_size"] == 64
    assert open_run(tmp_path / "r").image_size == 64
    assert err.count("px now") == 3


def test_epochs_without_gain_count_from_the_first_best():
    from e6tag.session import epochs_without_gain

    cases = [([], 0), ([0.1], 0), ([0.1, 0.2], 0), ([0.2, 0.1], 1), ([0.2, 0.2, 0.2], 2)]
    for scores, expected in cases:
        assert epochs_without_gain(scores) == expected


@pytest.mark.slow
def test_a_training_that_diverges_leaves_its_last_good_checkpoint(data, tmp_path):
    run = tmp_path / "r"
    options = ["--epochs", "9", "--clip-norm", "0", "--optimizer", "sgd", "--anneal", "linear"]
    options += ["--learning-rate", "1e9", "--warmup", "0.9", "--checkpoint-seconds", "0"]
    code, _, err = train(data, run, *options)
    assert code == 5, err
    last = err.strip().splitlines()[-1]
    assert " step " in last and "Lower --learning-rate (now 1e+09; --find-rate" in last
    assert "Traceback" not in err
    if (run / "checkpoints" / "state.json").exists():
        assert "is kept" in last
        _, weights = final_weights(run)
        assert all(np.isfinite(value).all() for value in weights.values())
    assert not (run / "run.json").exists()


@pytest.mark.slow
def test_the_range_test_proposes_a_rate_and_trains_nothing(data, tmp_path):
    run = tmp_path / "r"
    code, out, err = train(data, run, "--find-rate")
    assert code == 0, err
    flag, rate = out.split()
    assert flag == "--learning-rate"
    assert 1e-5 < float(rate) < 1
    names = {path.name for path in run.iterdir()} - {".lock"}
    assert names == {"lr_range.csv", "lr_range.png"}


def test_ctrl_c_ends_with_130_within_ten_seconds_and_resumes(data, tmp_path):
    options = ["--epochs", "40", "--checkpoint-seconds", "0.1"]
    code, words, seconds = kill_after_checkpoint(data, tmp_path / "r", signal.SIGINT, *options)
    assert code == 130, words
    assert seconds < 10
    assert "The same command goes on" in words


def test_a_dry_run_describes_and_writes_no_checkpoint(data, tmp_path):
    code, _, err = train(data, tmp_path / "r", "--dry-run")
    assert code == 0
    assert "parameters" in err
    assert "million multiply-adds a picture" in err
    assert "fits a card of 4 GB" in err
    assert "hours on this machine" in err
    assert not (tmp_path / "r" / "checkpoints").exists()


@pytest.mark.parametrize(
    "loss", ["bce", *(pytest.param(k, marks=pytest.mark.slow) for k in ("robust", "asl", "hill"))]
)
def test_other_losses_are_one_flag_away(data, tmp_path, loss):
    code, out, err = train(data, tmp_path / "r", "--epochs", "1", "--loss", loss)
    assert code == 0, err
    assert "macro AP" in out


JOINT = ["--loss", "bce", "--likelihood", "joint", "--factor-samples", "4"]
SPLC = ["--loss", "splc", "--splc-epochs", "1", "--splc-threshold", "0.3"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [JOINT, SPLC], ids=["joint", "splc"])
def test_draws_and_corrections_go_on_where_a_killed_run_stopped(data, tmp_path, options):
    options = [*options, "--epochs", "3", "--checkpoint-seconds", "0.2"]
    code, _, err = train(data, tmp_path / "whole", *options)
    assert code == 0, err
    kill_after_checkpoint(data, tmp_path / "killed", signal.SIGKILL, *options)
    code, _, err = train(data, tmp_path / "killed", *options)
    assert code == 0, err
    assert "resuming at step" in err
    (_, whole), (_, resumed) = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)


@pytest.mark.slow
def test_sgd_and_a_plain_head_without_attention_train_too(data, tmp_path):
    more = ["--optimizer", "sgd", "--learning-rate", "0.02", "--no-heteroscedastic", "--heads", "0"]
    more += ["--pooling", "mean", "--pooled-stages", "0"]
    code, _, err = train(data, tmp_path / "r", "--epochs", "1", "--loss", "focal", *more)
    assert code == 0, err


@pytest.mark.parametrize(
    "options, code, words",
    [
        (["--device", "gpu"], 2, "TensorFlow sees no GPU"),
        (["--mixed-precision"], 2, "needs a GPU"),
        (["--memory-gb", "0.61", "--batch-size", "128"], 2, "--accumulate"),
        (["--backbone", "vgg"], 2, "no backbone 'vgg'"),
        (["--freeze", "9"], 2, "--freeze is 9"),
        (["--likelihood", "joint", "--loss", "focal"], 2, "Add --loss bce"),
        (["--likelihood", "joint", "--loss", "bce", "--factors", "0"], 2, "--factors above 0"),
        (["--loss", "asl", "--asl-margin", "1"], 2, "--asl-margin must be from 0 to 0.999"),
        (["--learning-rate", "1e30", "--epochs", "3", "--clip-norm", "0"], 5, "the loss is"),
    ],
)
def test_bad_options_end_with_one_clear_line(data, tmp_path, options, code, words):
    found, _, err = train(data, tmp_path / "r", *[o for o in options if o != "cpu"])
    assert found == code, err
    assert words in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_no_data_says_what_to_run(tmp_path):
    code, _, err = train(tmp_path / "nothing", tmp_path / "r")
    assert code == 4
    assert "download.py" in err


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    run = tmp_path / "r"
    code, _, _ = kill_after_checkpoint(data, run, signal.SIGKILL, "--checkpoint-seconds", "0.1")
    weights = next((run / "checkpoints").glob("step-*.weights.h5"))
    weights.write_bytes(weights.read_bytes()[:1000])
    code, _, err = train(data, run, "--checkpoint-seconds", "0.1")
    assert code == 5
    assert weights.name in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--stem", "plain", "--channel-attention", "eca", "--pooling", "ml-decoder", "--rank", "8"],
        ["--backbone", "mobilenetv3-small", "--image-size", "64", "--heads", "0"],
    ],
)
def test_a_run_remembers_what_its_network_was_made_of(options, data, tmp_path):
    run = tmp_path / "r"
    code, _, err = train(data, run, "--epochs", "1", *options)
    assert code == 0, err
    assert "exported" in err and "from scratch" in err
    code, _, err = train(data, run, "--epochs", "1", *options)
    assert code == 0 and "is trained already" in err
    code, _, err = train(data, run, "--epochs", "1", *options, "--rank", "7")
    assert code == 2 and "was begun with rank" in err
