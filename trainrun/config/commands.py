"""The commands, each with the line that help shows of it."""

from __future__ import annotations

COMMANDS = {
    "new": "a project of your own, which trains at once: trainrun new FOLDER",
    "resume": "continue a run: trainrun resume RUN [overrides]",
    "eval": "evaluate a stored run: trainrun eval RUN [--checkpoint best|last|STEP] [--split train|val|test]",
    "predict": "predict samples, as CSV: trainrun predict RUN [--split SPLIT | --input FILE] [--out FILE]",
    "export": "for other programs: trainrun export RUN FILE.safetensors|.pt2|.onnx [--checkpoint STEP]",
    "check": "what usually breaks late, before training: trainrun check [--picture FILE.png] [overrides]",
    "find-lr": "a learning rate for the run: trainrun find-lr [--min LR] [--max LR] [--apply] [overrides]",
    "find-batch": "the largest batch that fits: trainrun find-batch [--memory SIZE] [--out FILE] [overrides]",
    "doctor": "what went wrong in a run, and what to try: trainrun doctor RUN [--json]",
    "compare": "what differs: trainrun compare RUN RUN ... [--out FILE.png] [--json] | SWEEP [--latex]",
    "runs": "list the stored runs: trainrun runs [--failed] [--json] [--clean]",
    "plot": "side by side: trainrun plot scheduler|optimizer|init NAME ... [overrides] | run RUN ... | sweep",
    "show": "what can be chosen: trainrun show [TOPIC | GROUP | GROUP/OPTION]",
}
