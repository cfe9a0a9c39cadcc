"""Completion scripts: each asks `kubectl-npc __complete WORDS...`, so the shells can never know less than the parser.

kubectl itself asks an executable `kubectl_complete-npc` with the same words; docs/kubectl-npc.md has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .arguments import complete

COMPLETE = "__complete"
"""The hidden command; cobra's name for it, because kubectl speaks cobra's protocol."""

NO_FILES = 4
FILES = 0
"""Cobra's directives: offer nothing else, or the shell's file names."""

SCRIPTS = {
    "bash": """\
# bash completion of kubectl-npc
_kubectl_npc() {
    local found
    found=$(kubectl-npc __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | sed '/^:[0-9]*$/d')
    mapfile -t COMPREPLY <<<"$found"
    [ -n "$found" ] || COMPREPLY=()
}
complete -o default -F _kubectl_npc kubectl-npc
""",
    "zsh": """\
#compdef kubectl-npc
_kubectl_npc() {
    local -a found
    found=("${(@f)$(kubectl-npc __complete "${(@)words[2,CURRENT]}" 2>/dev/null | sed '/^:[0-9]*$/d')}")
    if [[ -n "${found[1]}" ]]; then compadd -a found; else _files; fi
}
compdef _kubectl_npc kubectl-npc
""",
    "fish": """\
# fish completion of kubectl-npc
function __kubectl_npc_complete
    set -l words (commandline -opc) (commandline -ct)
    kubectl-npc __complete $words[2..-1] 2>/dev/null | string match -v -r '^:[0-9]+$'
end
complete -c kubectl-npc -a '(__kubectl_npc_complete)'
""",
}


def answer_shell(words: Sequence[str]) -> str:
    """The candidates, one a line, and cobra's directive."""
    found = complete(words)
    return "".join(f"{one}\n" for one in found) + f":{NO_FILES if found else FILES}\n"
