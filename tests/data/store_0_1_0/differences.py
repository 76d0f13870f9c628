"""What this release says otherwise than 0.1.0 on purpose, where it goes on with the stream: (of 0.1.0, now), and why.

All the rest is the same. Where it is a matter of counted windows, which keep the order of processing, only what
differs is named, not how.
"""

from __future__ import annotations

from typing import Final

STATUS: Final = {
    # A partition whose events are further apart than the lateness follows the median of the last nine.
    "stream_time": (1709255091000, 1709255071000),
    # A prediction is late by the time of its own partition.
    "events.late_predictions": (51, 54),
    "join.duplicates": (93, 92),
    "models.heat.versions.v2.predictions": (1151, 1150),
    "models.quiet.versions.q1.predictions": (121, 120),
    "models.heat.versions.v4.served_by.primary": (31, 30),
    # Outcomes meet answers by their own times, and answers of shadows whichever comes first.
    "join.joined": (2558, 2576),
    "join.late": (32, 35),
    "join.expired": (211, 214),
    "join.orphans": (181, 180),
    "join.pending": (178, 179),
    "models.heat.versions.v4.outcomes": (195, 205),
    "models.spam.versions.m3.outcomes": (92, 98),
    "models.animal.versions.a3.outcomes": (43, 48),
    "models.heat.versions.v2.outcomes": (532, 531),
    "models.animal.versions.a1.outcomes": (195, 194),
    "models.animal.versions.a2.outcomes": (792, 791),
    # Events of models that are not configured are counted by name, and no dead letters.
    "dead_letters_by_reason.unknown_model": (2, 1),
    "events.dead_letters": (188, 187),
    "events.ignored.cold": (None, 1),
    # Laws of the features themselves, in windows of several extents: three checks more or less show drift.
    "models.heat.versions.v2.checks.drift": (60, 57),
    "models.heat.versions.v2.checks.ok": (65, 68),
    "models.heat.versions.v4.checks.drift": (26, 27),
    "models.heat.versions.v4.checks.ok": (70, 69),
}
IGNORED: Final = ("ml.outcomes", 0, 3585)  # that event
# n is what a metric is over: of predicted or actual positives, of the rarer class, of answers that have a probability.
FEWER: Final = ("precision", "recall", "f1", "f1_macro", "roc_auc", "ece", "brier", "log_loss")
# What cannot be judged is told: (version, cause). 0.1.0 was silent about v3, which gets traffic and sends nothing,
# about rules whose metrics never come, and about labels past their limit, which it took for one and the same.
BLIND: Final = {("v3", "no_predictions"), ("v4", "rules"), ("", "limits.labels")}
# The order of one scenario silences this model. What was published as firing is published as resolved all the same.
RESOLVED_IN_SILENCE: Final = ("m2", "data_quality", "2024-03-01T00:39:49.593Z")
# Pairs land by panes of pair time. 0.1.0 had read outcomes ahead: at 00:58 it knew those of the next minutes. Now 60 %
# of the answers between 00:56 and 00:58 have their outcome in the pane that ends at 01:01, and are judged then.
# A dozen answers are not enough for a rule while little is known of their dependence.
CALM_NOW: Final = {("v4", "shadow_disagrees")}
# The same of counted windows; and missing and unseen values have a part of the budget of their own, which is small.
OTHERWISE: Final = {("a3", "accuracy"), ("m2", "sender"), ("m2", "words"), ("m3", "words")}
ALERTS: Final = {
    ("v2", "worse", 2): {
        "ends_at": ("2024-03-01T00:58:00.000Z", "2024-03-01T01:01:00.000Z"),
        "issued_at": ("2024-03-01T00:58:00.000Z", "2024-03-01T01:01:00.000Z"),
        "metric.n": (18, 16),
        "window.events": (25, 26),
    },
    ("v2", "explains_less", 2): {
        "ends_at": ("2024-03-01T00:58:00.000Z", "2024-03-01T01:01:00.000Z"),
        "issued_at": ("2024-03-01T00:58:00.000Z", "2024-03-01T01:01:00.000Z"),
        "metric.n": (18, 16),
        "window.events": (25, 26),
    },
    # The same; the champion's pairs of the same time, with which a shadow is compared, as well.
    ("v4", "explains_less", 4): {
        "metric.n": (14, 13),
        "metric.baseline": (-1.6656441, -1.7236411),
        "metric.limit": (-1.6856441, -1.7436411),
    },
    # Calm one check earlier by the laws of its features.
    ("v2", "fuel,prediction", 3): {
        "ends_at": ("2024-03-01T00:54:30.000Z", "2024-03-01T00:54:00.000Z"),
        "issued_at": ("2024-03-01T00:54:30.000Z", "2024-03-01T00:54:00.000Z"),
        "window.start": ("2024-03-01T00:52:30.000Z", "2024-03-01T00:52:00.000Z"),
        "window.end": ("2024-03-01T00:54:30.000Z", "2024-03-01T00:54:00.000Z"),
        "window.events": (36, 33),
    },
}
DERIVED: Final = ("summary", "metric.value")  # of what the table names
# Counted windows take answers in the order of processing, which is that of partition times now: from the kill on each
# holds other answers. So does what is learned from the first answers of these models.
LEARNED_BY_ORDER: Final = {
    "spam: answers:m1 (active)": ("hash", "features"),  # begun by this release
    "animal: answers:a3 (active)": ("hash",),  # the same answers in another order
    "animal: features (active)": ("hash",),
}
OF_LATEST_WINDOW: Final = ("firing", "health", "served_by", "checks", "pending", "data_quality")
