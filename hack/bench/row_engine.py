"""One agent beside one real vLLM, by `hack.bench.agent_engine`: from the order to the proof, without Kubernetes."""

from __future__ import annotations

from hack.bench.figures import Bar, Figure
from hack.bench.plan import Options
from hack.bench.scripts import run_script

_NAMES = {
    "applied -> proven": ("order -> proven, small adapter", "s", Bar(0.5), "0.47-0.66 s, AIBrix, unverified"),
    "killed -> reported down": ("engine killed -> the agent says so", "s", Bar(2.0), "never, AIBrix"),
    "healthy -> all proven": ("engine healthy again -> all adapters proven", "s", Bar(0.5), "0.4-1.2 s, AIBrix"),
    "160 MB applied -> proven": ("order -> proven, 160 MB adapter", "s", None, ""),
    "copy and hash, MB/s": ("160 MB: fetch with hash", "MB/s", None, ""),
    "inspect with scan, MB/s": ("160 MB: inspection with scan", "MB/s", None, ""),
    "load, s": ("160 MB: load by the engine", "s", None, ""),
    "probe, s": ("160 MB: probe by inference", "s", None, ""),
}
_LAG = "worst lag of the agent's loop, at most s"


async def measure_engine(options: Options) -> list[Figure]:
    """What the agent's own benchmark measured, as figures."""
    found = await run_script("hack.bench.agent_engine", "--rounds", str(options.runs), say=options.say)
    figures = [
        Figure(row="engine", what=what, unit=unit, runs=tuple(found[name]), bar=bar, peer=peer)
        for name, (what, unit, bar, peer) in _NAMES.items()
    ]
    lag = float(found[_LAG])
    note = "upper end of the histogram bucket that the worst delay fell into, over all runs"
    figures.append(Figure(row="engine", what="worst delay of the agent's loop", unit="s", runs=(lag,), note=note))
    return figures
