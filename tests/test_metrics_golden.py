"""Our figures are torchmetrics' (tests/golden/metrics.json), wherever it defines them.

torchmetrics works in float64 for curves (compared to 1e-9) but divides counts in float32 (1e-7).
It gives a tag of one class the AUC 0 and, without positives, the AP 0, and takes both into means;
ours are nan and stay out.  Its bins of equal width hold their lower edge, ours the upper one.
"""

import importlib.util
import json

import numpy as np
import pytest
from conftest import ROOT

from e6tag import confusion, metrics

GOLDEN = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text(encoding="utf-8"))


def load_tool():
    path = ROOT / "tools" / "make_metrics_golden.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = load_tool()


def case(variant):
    return *TOOL.problem(variant), GOLDEN[variant]


def test_every_variant_has_golden_values():
    assert set(GOLDEN) == set(TOOL.VARIANTS)


@pytest.mark.parametrize("variant", TOOL.VARIANTS)
def test_curves_are_torchmetrics(variant):
    truth, scores, golden = case(variant)
    tags = metrics.per_tag(truth, scores)
    both = (tags.positives > 0) & (tags.positives < len(truth))
    auc, ap = np.array(golden["auc_per_tag"]), np.array(golden["ap_per_tag"])
    np.testing.assert_allclose(tags.roc_auc[both], auc[both], atol=1e-9)
    np.testing.assert_allclose(tags.average_precision[both], ap[both], atol=1e-9)
    assert np.isnan(tags.roc_auc[~both]).all() and (auc[~both] == 0).all()
    figures = metrics.evaluate(truth, scores)
    assert figures["micro_auc"] == pytest.approx(golden["auc_micro"], abs=1e-9)
    assert figures["micro_ap"] == pytest.approx(golden["ap_micro"], abs=1e-9)
    if both.all():
        assert figures["macro_auc"] == pytest.approx(golden["auc_macro"], abs=1e-9)
        assert figures["macro_ap"] == pytest.approx(golden["ap_macro"], abs=1e-9)


@pytest.mark.parametrize("variant", TOOL.VARIANTS)
def test_figures_of_pictures_and_probabilities_are_torchmetrics(variant):
    truth, scores, golden = case(variant)
    figures = metrics.evaluate(truth, scores)
    assert figures["lrap"] == pytest.approx(golden["lrap"], abs=1e-7)
    assert figures["coverage_error"] == pytest.approx(golden["coverage_error"], abs=1e-9)
    if variant != "ties":
        error = metrics.expected_calibration_error(truth, scores, np.linspace(0, 1, 16))
        assert error == pytest.approx(golden["ece_15"], abs=1e-9)


@pytest.mark.parametrize("variant", TOOL.VARIANTS)
def test_decisions_are_torchmetrics_with_shares_of_nothing_as_0(variant):
    truth, scores, golden = case(variant)
    # A cut between scores: torchmetrics predicts above its own, we at or above ours.
    cuts = np.full(TOOL.NUM_TAGS, np.nextafter(TOOL.CUT, 1))
    hits, guessed, positives = confusion.decide(truth != 0, scores, cuts)
    rest = len(truth) - guessed - positives + hits
    columns = {"tp": hits, "fp": guessed - hits, "fn": positives - hits, "tn": rest}
    names = [f"tag{number}" for number in range(TOOL.NUM_TAGS)]
    found = confusion.figures(confusion.table(names, *columns.values()))
    for key in ("precision", "recall", "f1"):
        np.testing.assert_allclose(found.per_tag[key], golden[f"{key}_per_tag"], atol=1e-7)
        for average in ("micro", "macro"):
            expected = golden[f"{key}_{average}"]
            assert np.nan_to_num(found.summary[f"{average}_{key}"]) == pytest.approx(
                expected, abs=1e-7
            )
    assert found.summary["accuracy"] == pytest.approx(golden["accuracy_micro"], abs=1e-7)
