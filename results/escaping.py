"""Text from specs and tables as LaTeX, Markdown and CSV show it: as it is, on one line, and never as a command."""

import re
import unicodedata

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\texttt{\char34}",
    **{sign: f"\\{sign}" for sign in "&%_#${}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # options and star of the line break before
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    "–": r"\textendash{}",
    "−": "$-$",
    "…": r"\ldots{}",
    "†": r"$^{\dagger}$",
}
# What pdflatex knows without a package: these, and letters of Latin-1 and Latin Extended-A with one of the accents.
_KNOWN = set("ßæœøÆŒØłŁ—‘’“”")
_ACCENTS = set("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lamda mu nu xi pi rho sigma tau upsilon phi chi psi omega"
)
_GREEK_CAPITALS = "Gamma Delta Theta Lamda Xi Pi Sigma Upsilon Phi Psi Omega"
LATEX |= {
    unicodedata.lookup(f"GREEK SMALL LETTER {name}"): f"$\\{name.replace('lamda', 'lambda')}$"
    for name in _GREEK.split()
}
LATEX |= {
    unicodedata.lookup(f"GREEK CAPITAL LETTER {name}"): f"$\\{name.replace('Lamda', 'Lambda')}$"
    for name in _GREEK_CAPITALS.split()
}


def one_line(text: str) -> str:
    """Text without what cannot be seen, on one line."""
    return " ".join("".join(sign for sign in text if sign.isprintable() or sign.isspace()).split())


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is, on one line, anywhere outside of math.

    Letters that pdflatex does not know are printed by LuaLaTeX and XeLaTeX; pdflatex prints their numbers.
    """
    escaped = "".join(_latex_sign(sign) for sign in one_line(text))
    return re.sub("-(?=-)", "-{}", escaped)  # two hyphens stay two


def _latex_sign(sign: str) -> str:
    if sign in LATEX or sign.isascii() or sign in _KNOWN:
        return LATEX.get(sign, sign)
    letter, accents = unicodedata.normalize("NFD", sign)[0], unicodedata.normalize("NFD", sign)[1:]
    if ord(sign) < 0x180 and letter.isascii() and accents in _ACCENTS:
        return sign
    return f"\\ifdefined\\Umathcode {sign}\\else U+{ord(sign):04X}\\fi{{}}"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = re.sub(r"([\\|`*_<>\[\]~$#]|&(?=#?\w+;))", r"\\\1", one_line(text))
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", escaped)  # no list, no heading


def escape_csv(text: str) -> str:
    """Text that a spreadsheet shows and does not compute."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
