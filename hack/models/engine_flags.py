"""What a vLLM on a CPU needs to start soon and stay small; the demo, the e2e tests and the lone engine use the same.

Measured with vLLM 0.32 and the test model on 2 cores: 15 s to a healthy engine and 1.5 GB (proportional set size),
where the flags that one finds in guides give 40 s and 3.1 GB.
"""

ENGINE_ARGS = (
    # Compilation takes longer than everything a test asks, and adapters switch it off on a CPU anyway.
    "--enforce-eager",
    # bfloat16 would round away the margin by which reference answers lead.
    "--dtype=float32",
    # The model runs inside the engine process: one process less to start (10 s) and to hold (0.9 GB).
    "--distributed-executor-backend=uni",
    # 64 MiB hold 32,000 tokens of the test model; the default is measured in GiB.
    "--kv-cache-memory-bytes=67108864",
    "--max-num-seqs=16",
)
"""Arguments beside those every engine of ours gets (model, port, adapters)."""

ENGINE_ENV = {
    # vLLM turns "uni" back into several processes on a CPU unless this says 0.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # By default each engine binds itself to the first core: three engines on a host would share one.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    # The first request for log-probabilities compiles a kernel even with --enforce-eager, and the engine answers nobody
    # meanwhile: 64 s on two crowded cores, 0.1 s without.
    "TORCH_COMPILE_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Environment beside what every engine of ours gets."""

MODULE = "vllm.entrypoints.openai.api_server"
"""`python -m` this, with `packages_folder()` on PYTHONPATH."""
