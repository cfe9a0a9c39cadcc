"""What runs beside the engines: the wire protocol, the adapter agent and the gateway.

Nothing here may import ``npc_operator``; the operator in turn may import only ``npc_runtime.wire``.
"""
