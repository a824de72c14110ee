"""Rules of segments: parsed, printed, matched live. The meaning of each operator is rules.md, row by row.

Pure. Used by the API to refuse what means nothing, by the segment-engine to compile SQL and to match events.
"""

from postrider.rules.live import Matcher, compile_where
from postrider.rules.naming import Mention, SegmentRules, names_in, resolve
from postrider.rules.parse import RuleErrors, parse_rule, parse_where
from postrider.rules.printing import to_json, where_to_json
from postrider.rules.schema import RULE_SCHEMA, rule_schema, where_schema
from postrider.rules.tree import Rule

__all__ = [
    "RULE_SCHEMA",
    "Matcher",
    "Mention",
    "Rule",
    "RuleErrors",
    "SegmentRules",
    "compile_where",
    "names_in",
    "parse_rule",
    "parse_where",
    "resolve",
    "rule_schema",
    "to_json",
    "where_schema",
    "where_to_json",
]
