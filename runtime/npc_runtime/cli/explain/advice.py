"""Every reason the operator and the agents can give, and the next thing to do about it.

The words live in the operator's code, which the runtime must not import, so this is a table of its own;
tests/unit/cli imports both and fails when a reason has no row, or a row no reason. docs/operations.md says more.
"""

from __future__ import annotations

from .. import vocabulary as v

_LOGS = "kubectl logs {pod} -n {namespace} -c {container}"
_DESCRIBE = "kubectl describe {short} {name} -n {namespace}"
_EDIT = "kubectl edit {short} {name} -n {namespace}"
GATE_LOG = (
    f"kubectl logs -n {{namespace}} -l {v.LABEL_COMPONENT}={v.COMPONENT_GATE},{v.LABEL_ADAPTER}={{name}} --tail=-1"
)
"""What the gates of an adapter wrote."""
_BACK = "kubectl npc history {name} -n {namespace}, then: kubectl npc rollback {name} -n {namespace}"
_WATCH = "kubectl get {short} {name} -n {namespace} -w"

OBJECTS = {
    # everything is as wanted
    "Serving": "",
    "ScaledToZero": "nothing, or raise spec.replicas or spec.minReplicas: " + _EDIT,
    # something is changing
    "Loading": "wait; see each pod with: kubectl npc matrix -n {namespace}",
    "Retrying": "read the message; it is tried again by itself: " + _WATCH,
    "NoReadyEngine": "look at the tier: kubectl npc why tier/{tier} -n {namespace}",
    "AgentUnknown": "if it stays: kubectl logs POD -n {namespace} -c agent; may the operator reach port 9443?",
    "Starting": "wait; engines get spec.engine.startupSeconds: kubectl get pods -n {namespace} -w",
    "RollingUpdate": "wait: kubectl get pods -n {namespace} -w",
    "FetchingModel": "wait; if it stands still: kubectl logs POD -n {namespace} -c model",
    "Unschedulable": "compare the message with spec.scheduling, spec.accelerator and your nodes: " + _EDIT,
    "Preparing": "if it stays, the operator has no right on Secrets here: install the region with the npc-region chart",
    "GatewayStarting": "kubectl get pods -n {namespace} -l app.kubernetes.io/component=gateway",
    "GatewaySilent": "look at the named node; if it is gone for good: kubectl delete node NODE",
    "TiersNotReady": "look at the named tier: kubectl npc why tier/{tier} -n {namespace}",
    "Terminating": "nothing; it is being deleted",
    "WaitingForTurn": "wait, or raise spec.rolloutLimits.maxConcurrent of the region: kubectl edit npcr -n {namespace}",
    "Gating": "wait; hear what your gate says: " + GATE_LOG,
    "CheckingIdentity": "wait; it takes seconds: " + _WATCH,
    "Watching": "wait; it goes on by itself: kubectl npc status -n {namespace} --watch",
    "Probing": "wait; it goes on by itself: kubectl npc status -n {namespace} --watch",
    "TooLittleTraffic": "wait for players, or set spec.rollout.onTooLittleTraffic to Probe or Proceed: " + _EDIT,
    # a person is needed
    "Suspended": "to go on: kubectl npc resume {short}/{name} -n {namespace}",
    "Unreadable": "upgrade the operator, or correct the field in the message: " + _EDIT,
    "RoutesTooLarge": "spread the voices over several regions; what serves now goes on",
    "NamespaceTaken": "one region per namespace: move or delete one of them: kubectl get npcr -n {namespace}",
    "ArchetypeTaken": "delete one of the two: kubectl get npca -n {namespace}",
    "NoRegion": "name the tier in spec.tiers of the region, or give the adapter the labels of its spec.adapterSelector",
    "UnknownTier": "create the GpuTier or correct the name: kubectl get gput -n {namespace}",
    "RankAboveTier": "lower the variant's rank, or raise spec.engine.maxLoraRank of the tier",
    "SecretNotFound": "create the Secret or correct the reference: kubectl get secrets -n {namespace}",
    "CertificateInvalid": "put a certificate in PEM form and its key into the Secret: kubectl create secret tls NAME "
    "--cert=FILE --key=FILE --dry-run=client -o yaml -n {namespace} | kubectl apply -f -",
    "AwaitingApproval": "kubectl npc history {name} -n {namespace}, then: kubectl npc approve {name} -n {namespace}",
    "GateFailed": "hear what your gate says, and publish a new digest: " + GATE_LOG,
    "IdentityLost": "find out who changed the pod's files or its engine's adapters, then: kubectl delete pod POD "
    "-n {namespace}",
    "ProbeLost": "read the engine's log: kubectl logs POD -n {namespace} -c engine",
    "CandidateErrors": _BACK,
    "CandidateIncomplete": _BACK,
    "CandidateMismatched": _BACK,
    "CandidateSlow": _BACK,
    "WithdrawnByGateway": _BACK,
    "FallbackUnknown": "correct spec.fallbackTier: kubectl get gput -n {namespace}, then: " + _EDIT,
    "FallbackCycle": "let the last tier of the chain name no fallbackTier: " + _EDIT,
    "IssuerUnknown": "may the operator read the API server's token keys? kubectl get --raw /openid/v1/jwks",
    "Quarantined": "put a good digest into the spec: kubectl npc rollback {name} -n {namespace}",
    "SlotsExceeded": "raise spec.engine.maxCpuLoras of the tier, or remove voices",
    "ServedNameClash": "change any byte of the adapter, such as a line of its README.md, and publish the new digest",
    "LoadTimeout": "mend the named pod; to give up, put the old digest back into the spec: " + _EDIT,
    "IdentityTimeout": "kubectl logs POD -n {namespace} -c agent; if it stays silent: kubectl delete pod POD "
    "-n {namespace}",
    "QuotaExceeded": "raise the quota, or lower spec.maxReplicas or resources: kubectl describe quota -n {namespace}",
    "ImagePullFailed": "correct spec.engine.image or spec.imagePullSecrets: " + _EDIT,
    "CreateContainerConfigError": "create the Secret or ConfigMap that the message names",
    "CreateContainerError": "see the message and the container runtime of the node",
    "RunContainerError": "see the message; often a wrong spec.engine.command: " + _EDIT,
    "CrashLooping": "read why it ended: " + _LOGS + " --previous",
    "ProgressDeadlineExceeded": "look at the new pods: kubectl get pods -n {namespace}",
    "NameTaken": "delete or rename the object that has the name",
    "InvalidChild": "correct the value that the message names: " + _EDIT,
    # nodes of a tier
    "NodePoolsKept": "",
    "NodePoolsForbidden": "grant what the message names; the tier goes on without",
    "NodePoolsRefused": "correct the value that the message names: " + _EDIT,
    "KarpenterMissing": "install Karpenter, or set spec.nodePools.provider to existing: " + _EDIT,
    "NodeClassNotReady": "see the node class that the message names, and the logs of Karpenter",
    "CloudCredentials": "give the operator's ServiceAccount a role of the cloud: docs/clouds/aws.md",
    "HeadroomRefused": "see the message; often: helm upgrade npc-operator --reuse-values --set nodePools.enabled=true",
    "FinalizerHeld": "take the finalizer off with the command of docs/node-pools.md#removing",
    # on-demand and spot
    "SpotAsWanted": "",
    "SpotPending": "nothing at first; if it stays, allow more instance types or zones for spot nodes",
    "SpotLost": "nothing; if it happens often, set spec.capacity.overprovisionReplicas: " + _EDIT,
    "SpotStorm": "nothing; the message says until when everything stays on demand",
    "SpotNotReadyLongEnough": "wait: " + _WATCH,
    "ReturningToSpot": "wait: " + _WATCH,
    "PodsUnknown": "if it stays, read the operator's log: it names what cannot be read",
    # interruption queues
    "QueueRead": "",
    "QueueMissing": "create the queue, or correct its URL and region in spec.interruption.queue: " + _EDIT,
    "QueueForbidden": "grant the operator's identity the policy of docs/clouds/aws.md",
    "QueueUnreachable": "may the operator's pods reach SQS? read its log",
    "NoticesNotKept": "read the operator's log: the API server did not take what it wrote",
    # interruptions
    "NodesForbidden": "grant the operator get, list and watch of nodes with a ClusterRole: docs/spot.md",
    # history
    "First": "",
    "Moved": "",
    "Stepped": "",
    "Held": "",
    "RolledBack": _BACK,
    "Cancelled": "",
    "Restored": "",
    "Adopted": "",
}

AGENTS = {
    # where it comes from
    "UnsupportedUri": "correct source.uri: " + _EDIT,
    "RootNotAllowed": "add the folder to spec.agent.fileRoots of the tier, or move the adapter",
    "NotFound": "upload it, or correct source.uri: " + _EDIT,
    "AccessDenied": "correct the Secret of source.secretRef, the bucket's policy or the pod's identity",
    "CredentialsMissing": "name a Secret in source.secretRef, or bind the tier's serviceAccountName to a cloud role",
    "SourceUnavailable": "see that the source answers and that its certificate is trusted",
    "SourceChanged": "upload versions to new folders instead of over old ones",
    "RedirectRefused": "name the final address in source.uri: " + _EDIT,
    # room for it
    "TooLarge": "remove what is not config, weights or short text, or raise spec.agent.cacheSize",
    "TooManyFiles": "upload the final adapter, not the training folder",
    "CacheFull": "raise spec.agent.cacheSize of the tier",
    "DiskFull": "free space on the node, or raise spec.agent.cacheSize",
    "DiskError": "look at the node's disk",
    # its bytes
    "DigestMismatch": "compute it with: kubectl npc digest DIR, then correct source.digest: " + _EDIT,
    "UnsafePath": "rename the file; check the folder with: kubectl npc lint DIR",
    "Symlink": "upload the file itself; check the folder with: kubectl npc lint DIR",
    "ForbiddenFile": "remove the file, convert weights to safetensors; check the folder with: kubectl npc lint DIR",
    "MissingFile": "upload adapter_config.json and adapter_model.safetensors",
    "BadConfig": "save the adapter anew with PEFT",
    "UnsupportedFeature": "train without the feature that the message names",
    "RankTooHigh": "declare the real rank in the variant, and raise spec.engine.maxLoraRank of the tier if need be",
    "BadHeader": "save the weights anew; check the folder with: kubectl npc lint DIR",
    "Truncated": "upload the weights again",
    "BadTensor": "save the adapter anew; check the folder with: kubectl npc lint DIR",
    "NotFinite": "train again: this adapter would answer nonsense",
    "BaseMismatch": "use the adapter that was made for this base model",
    # the engine
    "NameClash": "delete the pod, and find out who loads adapters beside the agent",
    "LoadFailed": "read the engine's log: kubectl logs POD -n {namespace} -c engine",
    "EngineRefused": "read the engine's log: kubectl logs POD -n {namespace} -c engine",
    "EngineUnauthorized": "if it stays for minutes: kubectl delete pod POD -n {namespace}",
    "EngineUnavailable": "read the engine's log: kubectl logs POD -n {namespace} -c engine",
    "NotVisibleToEngine": "kubectl delete pod POD -n {namespace}",
    "ProbeFailed": "read the engine's log: kubectl logs POD -n {namespace} -c engine",
    "ProbeTimeout": "raise probe.timeoutSeconds, or look at the engine's load",
    "ProbeMismatch": "ask the adapter by hand, then correct the probe's patterns or the adapter",
    "BadPattern": "correct the pattern, which must be RE2: " + _EDIT,
    "IdentityLost": "find out who changed the pod's files or adapters, then: kubectl delete pod POD -n {namespace}",
    # the agent itself
    "Internal": "read the agent's log and report it: kubectl logs POD -n {namespace} -c agent",
}


def next_step(
    reason: str,
    *,
    namespace: str,
    short: str = "",
    name: str = "",
    tier: str = "",
    pod: str = "",
    container: str = "",
) -> str:
    """What to do about `reason`; a look at the object where the reason is of a newer operator."""
    text = OBJECTS.get(reason, AGENTS.get(reason, _DESCRIBE))
    if pod:
        text = text.replace("POD", pod)
    return text.format(
        namespace=namespace,
        short=short,
        name=name,
        tier=tier or "TIER",
        pod=pod or "POD",
        container=container or "CONTAINER",
    )
