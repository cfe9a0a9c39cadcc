"""The demo from start to end: bring everything up, show it, and say how to go on playing."""

from __future__ import annotations

import shutil

from hack.cluster import api
from hack.demo import acts, rollback, spot
from hack.demo.acts import DemoFault
from hack.demo.console import Console
from hack.stack import commands, install, regions, storage
from hack.stack.diagnosis import diagnose
from hack.stack.engines import vllm_plan
from hack.stack.helm import Helm
from hack.stack.install import OPERATOR_NAMESPACE, Stack
from hack.stack.kubectl import Kubectl
from hack.stack.references import References, references
from hack.stack.region import SECRET_API_KEYS, RegionPlan, three_tiers
from hack.stack.regions import KEY_NAME, Region
from hack.stack.watching import is_settled, until_all_ready

REGION = "eu-west"
VOICES = {"vampire": "vampire-v1", "zombie": "zombie-v1", "merchant": "merchant-v1"}
SWAPPED, SWAPPED_TO = "vampire", "vampire-v2"
KILLED_TIER = "silver"
# Three engines start in one to two minutes on two idle cores; on a machine with other work it may be five times that.
READY_SECONDS = 600.0


async def up(console: Console) -> None:
    """Everything, or an exception that says what is not as it should be."""
    stack, known = await _bring_up(console)
    await put_back(console, stack)
    region = await _install(console, stack)
    console.step("Everything is ready")
    await _look(console, region)
    console.step("Every voice on every tier, through the gateway")
    await acts.let_them_speak(console, region, known, tuple(region.plan.tiers))
    console.step(f"A new {SWAPPED} under a steady load of streaming lines")
    await acts.swap_under_load(console, region, known, SWAPPED, SWAPPED_TO)
    console.step(f"An engine is killed: tier {KILLED_TIER}")
    await acts.kill_an_engine(console, region, KILLED_TIER)
    await acts.let_them_speak(console, region, known, (KILLED_TIER,))
    console.step(f"Done in {console.elapsed:.0f} s, and everything was as it should be. To go on playing:")
    console.text("\n".join(commands_to_play(stack, region)))


async def take_back(console: Console) -> None:
    """The chapter on a bad vampire, on the demo's region as it is; where there is none, it is brought up first."""
    stack, known = await _bring_up(console)
    region = await find_usable(console, stack, _plan(stack)) or await _install(console, stack)
    began = console.elapsed
    console.step(f"A bad {rollback.VOICE} under a steady load of streaming lines")
    await rollback.take_back(console, region, known)
    console.step(f"Done, {console.elapsed - began:.0f} s after the region was ready. To look at what was decided:")
    lines = commands_to_play(stack, region)
    at = lines.index(f"kubectl get npc -n {region.namespace}")
    console.text("\n".join([*lines[:at], f"kubectl events -n {region.namespace} --for npca/{rollback.VOICE}"]))


async def take_away(console: Console) -> None:
    """The chapter on spot, on the demo's region as it is; where there is none, it is brought up first."""
    stack, known = await _bring_up(console)
    if stack.cluster.driver not in spot.ENDS_MACHINES:
        raise DemoFault(f"a cluster of the driver {stack.cluster.driver!r} is there, and its nodes are not ours to end")
    region = await find_usable(console, stack, _plan(stack)) or await _install(console, stack)
    began = console.elapsed
    console.step(f"The spot node of {spot.TIER} is taken away under a steady load of streaming lines")
    await spot.take_away(console, region, known)
    console.step(f"Done, {console.elapsed - began:.0f} s after the region was ready. To look at what was decided:")
    lines = commands_to_play(stack, region)
    at = lines.index(f"kubectl get npc -n {region.namespace}")
    more = f"kubectl get gput {spot.TIER} -n {region.namespace} -o yaml   # status.capacity, status.interruptions"
    console.text("\n".join([*lines[:at], f"kubectl events -n {region.namespace} --for gput/{spot.TIER}", more]))


async def find_usable(console: Console, stack: Stack, plan: RegionPlan) -> Region | None:
    """The demo's region if it is whole, at rest and of this checkout; else None, and installing it makes it so.

    Objects alone do not tell: their statuses are memories while no operator is there, and one of another version knows
    nothing of what is shown.
    """
    disturbed = await put_back(console, stack)
    region = await regions.find(stack, plan)
    if region is None:
        return None
    if await _other_images(stack):
        console.say(f"the region {REGION} runs what another version of this checkout has built: it is made anew")
        await regions.uninstall(stack.kubectl, stack.helm, REGION, REGION)
        return None
    objects = await region.objects()
    operator = await stack.kubectl.find("deployment", install.OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE)
    whole = len(objects) >= _size(plan) and all(is_settled(seen) for seen in objects)
    open_voices = [seen for seen in objects if seen["kind"] == "ArchetypeAdapter" and not rollback.is_forgiven(seen)]
    if disturbed or not whole or open_voices or operator is None or not install.is_rolled_out(operator):
        return None
    console.say(f"the region {REGION} is there and everything of it is ready")
    return region


async def put_back(console: Console, stack: Stack) -> bool:
    """Put back what a chapter that was ended in its midst has left, whichever it was and whichever comes next; whether
    anything was. Digests and strategies come back with the installation that follows then.
    """
    if REGION not in await stack.helm.releases("npc-region"):
        return await spot.mend_nodes(console, stack)  # there may not even be tiers to ask for
    mended = await spot.put_back(console, stack, REGION)
    return await rollback.tidy(console, stack.kubectl, REGION) or mended


async def _other_images(stack: Stack) -> set[str]:
    """Images of ours that run here and are not the one of this checkout. Engine pods keep theirs when the operator is
    upgraded.
    """
    pods = [*await stack.kubectl.list("pods", OPERATOR_NAMESPACE), *await stack.kubectl.list("pods", REGION)]
    named = {
        str(container["image"])
        for pod in pods
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])
    }
    ours = stack.images.fleet.rpartition(":")[0]
    return {image for image in named if image.rpartition(":")[0] == ours} - {stack.images.fleet}


def _size(plan: RegionPlan) -> int:
    """Objects of our kinds that a region has: tiers, voices, itself."""
    return len(plan.tiers) + len(plan.adapters) + 1


async def _bring_up(console: Console) -> tuple[Stack, References]:
    console.step("Bringing up a cluster and what a region needs")
    stack = await install.bring_up(console.say)
    console.say("answers: what each adapter must say, from a lone vLLM")
    return stack, await references(stack.catalog)


def _plan(stack: Stack) -> RegionPlan:
    """The voices move at once when their bytes change: steps have a chapter of their own."""
    return three_tiers(
        REGION,
        vllm_plan(stack.images.engine_base),
        model_uri=stack.model_uri,
        voices={archetype: stack.adapter(name) for archetype, name in VOICES.items()},
    )


async def _install(console: Console, stack: Stack) -> Region:
    """Operator and region, ready."""
    console.step("Installing the operator with Helm")
    console.command("helm upgrade --install npc-crds charts/npc-crds -n npc-system")
    console.command("helm upgrade --install npc-operator charts/npc-operator -n npc-system")
    console.say("two replicas: one leads, the other waits for its turn")
    await install.install_operator(stack)

    console.step(f"Installing the region {REGION}: gold and silver on demand, bronze on spot; three voices")
    console.command(f"helm upgrade --install {REGION} charts/npc-region -n {REGION} --values ...")
    plan = _plan(stack)
    region = await regions.install(stack, plan)
    console.say("what is pending, and why, as the operator's status says it:")
    await until_all_ready(stack.kubectl, REGION, expected=_size(plan), say=console.say, timeout=READY_SECONDS)
    return region


async def down(console: Console, *, keep_cluster: bool) -> None:
    """Take the demo away: with its cluster, or only what is installed in it, in the documented order."""
    cluster = api.find()
    if cluster is None:
        console.say("there is no cluster")
        return
    if keep_cluster:
        kubectl = Kubectl(api.binary("kubectl"), cluster.kubeconfig)
        helm = Helm(api.binary("helm"), cluster.kubeconfig)
        console.step("Uninstalling: regions first, then the operator, then the kinds")
        for name, namespace in sorted((await helm.releases("npc-region")).items()):
            console.say(f"region {name}")
            await regions.uninstall(kubectl, helm, name, namespace)
        console.say("operator and kinds")
        await install.uninstall_operator(kubectl, helm)
        console.say("the S3 server")
        await storage.stop(kubectl)
        return
    console.step("Removing the cluster and everything in it")
    await commands.run_tool("hack.cluster", "down")


async def what_is_wrong() -> str:
    """A look at everything the demo installs; empty when there is no cluster to look at."""
    cluster = api.find()
    if cluster is None:
        return ""
    return await diagnose(Kubectl(api.binary("kubectl"), cluster.kubeconfig), (OPERATOR_NAMESPACE, REGION))


async def _look(console: Console, region: Region) -> None:
    for arguments in (("get", "npc"), ("get", "pods", "-o", "wide")):
        console.command(f"kubectl {' '.join(arguments)} -n {region.namespace}")
        console.text(await region.kubectl.run(*arguments, "-n", region.namespace))


def commands_to_play(stack: Stack, region: Region) -> list[str]:
    """Lines to paste into a shell. The API key is read from its Secret, so that no terminal's history holds it."""
    namespace = region.namespace
    question = '{"role": "user", "content": "Who are you?"}'
    lines = [f"export KUBECONFIG={stack.cluster.kubeconfig}"]
    if shutil.which("kubectl") is None:
        lines.append(f"export PATH={stack.kubectl.binary.parent}:$PATH")
    return [
        *lines,
        f"kubectl get npc -n {namespace}",
        f"kubectl describe npca {SWAPPED} -n {namespace}",
        f"KEY=$(kubectl get secret {SECRET_API_KEYS} -n {namespace} -o jsonpath='{{.data.{KEY_NAME}}}' | base64 -d)",
        f'curl -si {region.url}/v1/chat/completions -H "Authorization: Bearer $KEY" -H "X-NPC-Tier: gold" \\',
        "  -H 'Content-Type: application/json' \\",
        f"""  -d '{{"model": "{SWAPPED}", "max_tokens": 16, "messages": [{question}]}}'""",
        "make demo-rollback   # a bad vampire is caught and taken back",
        "make demo-spot       # a spot node is taken away while they speak",
        "make demo-down       # removes the demo and its cluster",
    ]
