"""All rows, in the order of the table."""

from __future__ import annotations

from hack.bench.plan import Row
from hack.bench.row_analysis import measure_analysis
from hack.bench.row_change import measure_change
from hack.bench.row_cold import measure_cold
from hack.bench.row_engine import measure_engine
from hack.bench.row_gateway import (
    measure_gateway,
    measure_gateway_affinity,
    measure_gateway_memory,
    measure_gateway_tiers,
)
from hack.bench.row_interruptions import measure_interruptions
from hack.bench.row_interruptions_kwok import measure_interruptions_kwok
from hack.bench.row_leader import measure_leader
from hack.bench.row_live import measure_live
from hack.bench.row_queue import measure_queue
from hack.bench.row_rest import measure_memory, measure_rest
from hack.bench.row_spot import measure_spot

ROWS = (
    Row("change", "spec change -> agent called, 1,000 adapters present", "20 minutes", measure_change),
    Row("cold", "1,000 adapters on 10 empty pods, and 200 on 4", "15 minutes", measure_cold),
    Row("memory", "operator memory with 1,000 adapters", "4 minutes", measure_memory),
    Row("rest", "writes at rest with 1,000 adapters", "7 minutes", measure_rest),
    Row("leader", "leader killed, and handed over", "4 minutes", measure_leader),
    Row("gateway", "the gateway with every feature on beside vllm-router", "10 minutes", measure_gateway),
    Row("gateway-memory", "the gateway's memory: 10,000 NPCs, 10,000 streams", "4 minutes", measure_gateway_memory),
    Row("gateway-tiers", "Gold beside an overloaded Bronze, and who is shed", "2 minutes", measure_gateway_tiers),
    Row("gateway-affinity", "lines sent where their beginning is cached", "3 minutes", measure_gateway_affinity),
    Row("analysis", "rollouts judged: false alarms and power, simulated", "12 minutes", measure_analysis),
    Row("spot", "cost and availability on spot, simulated with the operator's own decision", "5 minutes", measure_spot),
    Row("interruptions", "1,000 nodes, 5,000 pods, 300 nodes interrupted at once", "2 minutes", measure_interruptions),
    Row("interruptions-kwok", "the same on etcd, kube-apiserver and kwok", "8 minutes", measure_interruptions_kwok),
    Row("queue", "15,000 mixed messages of an interruption queue", "5 minutes", measure_queue),
    Row("engine", "agent and real vLLM: order -> proven, engine killed, 160 MB", "6 minutes", measure_engine),
    Row("live", "local cluster, real vLLM: applied, changed, killed", "10 minutes", measure_live, needs_cluster=True),
)
