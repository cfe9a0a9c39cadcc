"""Rules of NPCRegion."""

from __future__ import annotations

from tests.contract.crd.case import Case
from tests.contract.crd.objects import REMOVE

REGION = (
    Case(
        name="a gateway: an empty toleration key tolerates all or nothing",
        kind="NPCRegion",
        accept=({"spec.gateway.scheduling.tolerations": [{"operator": "Exists"}]},),
        refuse=({"spec.gateway.scheduling.tolerations": [{"value": "x"}]},),
        field="spec.gateway.scheduling.tolerations[0].key",
        message="an empty key needs operator Exists",
    ),
    Case(
        name="a gateway: a toleration that asks for existence has no value",
        kind="NPCRegion",
        accept=({"spec.gateway.scheduling.tolerations": [{"key": "spot", "operator": "Exists"}]},),
        refuse=({"spec.gateway.scheduling.tolerations": [{"key": "spot", "operator": "Exists", "value": "x"}]},),
        field="spec.gateway.scheduling.tolerations[0].value",
        message="operator Exists takes no value",
    ),
    Case(
        name="a gateway: only NoExecute is tolerated for a time",
        kind="NPCRegion",
        accept=(
            {
                "spec.gateway.scheduling.tolerations": [
                    {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}
                ]
            },
        ),
        refuse=({"spec.gateway.scheduling.tolerations": [{"key": "a", "value": "b", "tolerationSeconds": 5}]},),
        field="spec.gateway.scheduling.tolerations[0].tolerationSeconds",
        message="only effect NoExecute takes tolerationSeconds",
    ),
    Case(
        name="a population has a lower and an upper bound",
        kind="NPCRegion",
        accept=({"spec.tiers.0.npcs": {"min": 5, "max": 5, "current": 900}},),
        refuse=({"spec.tiers.0.npcs": {"min": 6, "max": 5}},),
        field="spec.tiers[0].npcs.min",
        message="must not be above max",
    ),
    Case(
        name="a tier is named once",
        kind="NPCRegion",
        accept=({"spec.tiers.0.tier": "silver"},),
        refuse=({"spec.tiers.0.tier": "bronze"},),
        field="spec.tiers[1]",
        message="Duplicate value",
    ),
    Case(
        name="the default tier is one of the region's",
        kind="NPCRegion",
        accept=({"spec.defaultTier": "gold"},),
        refuse=({"spec.defaultTier": "silver"},),
        field="spec.defaultTier",
        message="must be one of tiers",
    ),
    Case(
        name="NPCs are assigned to tiers of the region",
        kind="NPCRegion",
        accept=({"spec.assignments": [{"npcPrefix": "quest-", "tier": "gold"}]},),
        refuse=({"spec.assignments": [{"npcPrefix": "quest-", "tier": "silver"}]},),
        field="spec.assignments",
        message="every assignment's tier must be one of tiers",
    ),
    Case(
        name="a prefix is assigned once",
        kind="NPCRegion",
        accept=({"spec.assignments": [{"npcPrefix": p, "tier": "gold"} for p in ("a", "ab")]},),
        refuse=({"spec.assignments": [{"npcPrefix": "a", "tier": t} for t in ("gold", "bronze")]},),
        field="spec.assignments[1]",
        message="Duplicate value",
    ),
    Case(
        name="API keys need a Secret",
        kind="NPCRegion",
        accept=({}, {"spec.gateway.auth": {"mode": "None"}}),
        refuse=({"spec.gateway": REMOVE}, {"spec.gateway.auth": {}}, {"spec.gateway.auth": {"mode": "ApiKey"}}),
        field="spec.gateway.auth.secretRef",
        message="mode ApiKey needs a Secret with the keys",
    ),
    Case(
        name="an open gateway has no keys",
        kind="NPCRegion",
        accept=({"spec.gateway.auth": {"mode": "None"}},),
        refuse=({"spec.gateway.auth.mode": "None"},),
        field="spec.gateway.auth.secretRef",
        message="mode None asks for no keys",
    ),
    Case(
        name="keys of the adapter selector are label keys",
        kind="NPCRegion",
        accept=({"spec.adapterSelector.matchLabels": {"game": "night"}},),
        refuse=({"spec.adapterSelector.matchLabels": {"game!": "night"}},),
        field="spec.adapterSelector.matchLabels",
        message="keys must be label keys",
    ),
    Case(
        name="keys of the Service's annotations are label keys",
        kind="NPCRegion",
        accept=({"spec.gateway.service.annotations": {"example.com/lb": "internal"}},),
        refuse=({"spec.gateway.service.annotations": {"example.com/": "internal"}},),
        field="spec.gateway.service.annotations",
        message="keys must be label keys",
    ),
    Case(
        name="a Service's name begins with a letter",
        kind="NPCRegion",
        accept=({"spec.gateway.service.name": "npcs"}, {"spec.gateway.service.name": ""}),
        refuse=({"spec.gateway.service.name": "1npcs"}, {"spec.gateway.service.name": "n.pcs"}),
        field="spec.gateway.service.name",
        message="should match",
    ),
    Case(
        name="what a region quarantines is a digest",
        kind="NPCRegion",
        accept=({"spec.quarantinedDigests": ["sha256:" + "0" * 64]},),
        refuse=({"spec.quarantinedDigests": ["sha256:0"]},),
        field="spec.quarantinedDigests[0]",
        message="should match '^sha256:[0-9a-f]{64}$'",
    ),
    Case(
        name="a region lets one rollout go on at least",
        kind="NPCRegion",
        accept=({"spec.rolloutLimits": {"maxConcurrent": 1, "ceilingPercent": 0}}, {"spec.rolloutLimits": {}}),
        refuse=({"spec.rolloutLimits.maxConcurrent": 0},),
        field="spec.rolloutLimits.maxConcurrent",
        message="should be greater than or equal to 1",
    ),
    Case(
        name="a region's ceiling is a share of the NPCs",
        kind="NPCRegion",
        accept=({"spec.rolloutLimits.ceilingPercent": 10},),
        refuse=({"spec.rolloutLimits.ceilingPercent": 101},),
        field="spec.rolloutLimits.ceilingPercent",
        message="should be less than or equal to 100",
    ),
    Case(
        name="a certificate is in a Secret that has a name",
        kind="NPCRegion",
        accept=({"spec.gateway.tls": {"secretName": "gateway.tls-1"}},),
        refuse=({"spec.gateway.tls": {"secretName": "Gateway"}}, {"spec.gateway.tls": {"secretName": ""}}),
        field="spec.gateway.tls.secretName",
        message="should",
    ),
    Case(
        name="a service account is named with its namespace",
        kind="NPCRegion",
        accept=({"spec.gateway.auth.serviceAccounts": {"audience": "npc", "allowed": ["game:server"]}},),
        refuse=({"spec.gateway.auth.serviceAccounts": {"audience": "npc", "allowed": ["server"]}},),
        field="spec.gateway.auth.serviceAccounts.allowed[0]",
        message="should match",
    ),
)
