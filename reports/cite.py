"""How to cite what a report holds: the paper that asked, and loopsweep as it stands in ``CITATION.cff``."""

from __future__ import annotations

PAPER = """@article{gong2025looped,
  title   = {What Makes Looped Transformers Perform Better Than Non-Recursive Ones},
  author  = {Gong and Teng and Liu},
  journal = {arXiv preprint arXiv:2510.10089},
  year    = {2025},
  url     = {https://arxiv.org/abs/2510.10089}
}"""


def bibtex(version: str) -> str:
    """Two entries: the paper, and the software of this version."""
    software = f"""@software{{loopsweep,
  title   = {{loopsweep: a sweep orchestrator for looped transformers}},
  author  = {{{{the loopsweep developers}}}},
  version = {{{version}}},
  year    = {{2026}},
  license = {{MIT}}
}}"""
    return f"{PAPER}\n\n{software}"
