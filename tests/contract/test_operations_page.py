"""docs/operations.md names every setting, metric, topic and table; metrics are named as Prometheus asks."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Metric
from pydantic.fields import FieldInfo

from campaign_api.settings import CampaignApiSettings
from dispatcher.settings import Settings as DispatcherSettings
from postrider.contracts.topics import TOPICS
from scheduler.settings import Settings as SchedulerSettings
from segment_engine.settings import Settings as SegmentEngineSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
SETTINGS = (CampaignApiSettings, DispatcherSettings, SchedulerSettings, SegmentEngineSettings)
NAMES = frozenset(re.findall(r"`([^`\s]+)`", PAGE))


def fields() -> dict[str, FieldInfo]:
    return {str(field.alias): field for settings in SETTINGS for field in settings.model_fields.values()}


def metrics() -> list[Metric]:
    for module in ("postrider", "campaign_api", "dispatcher", "scheduler", "segment_engine"):
        importlib.import_module(f"{module}.metrics")
    importlib.import_module("postrider.health")
    return [metric for metric in REGISTRY.collect() if metric.name.startswith("postrider_")]


def test_every_setting_is_there() -> None:
    assert sorted(fields().keys() - NAMES) == []


def test_no_setting_is_there_that_nothing_reads() -> None:
    launcher = {"POSTRIDER_HOME", "POSTRIDER_KAFKA_PORT", "POSTRIDER_POSTGRES_PORT", "POSTRIDER_TOPIC_REPLICATION"}
    named = {name for name in NAMES if re.fullmatch(r"(POSTRIDER|KAFKA|DATABASE)_[A-Z_]+", name)}
    assert sorted(named - fields().keys() - launcher) == []


def test_every_metric_is_there() -> None:
    missing = [
        name
        for metric in metrics()
        if (name := metric.name + ("_total" if metric.type == "counter" else "")) not in NAMES
    ]
    assert missing == []


@pytest.mark.parametrize("metric", metrics(), ids=lambda metric: metric.name)
def test_metrics_are_named_as_prometheus_asks(metric: Metric) -> None:
    assert metric.documentation
    assert not re.search(r"(^|_)(ms|milliseconds|microseconds|minutes|hours|days|kb|mb|percent)($|_)", metric.name)
    assert not re.search(r"_(counter|gauge|histogram|count|sum|bucket)$", metric.name)
    for sample in metric.samples:
        for label in sample.labels:
            assert label == "le" or re.fullmatch(r"[a-z][a-z0-9_]*", label), label


def test_every_topic_is_there() -> None:
    assert [topic.name for topic in TOPICS if f"…{topic.name}.v{topic.version}" not in NAMES] == []


def test_every_table_is_there() -> None:
    scripts = [*ROOT.glob("services/*/src/*/migrations/*.py"), *ROOT.glob("libs/common/src/postrider/postgres/*.py")]
    created = {
        name
        for script in scripts
        for name in re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) *(?:\(|\n)", script.read_text("utf-8"))
    }
    assert len(created) > 20
    assert sorted(created - NAMES) == []
