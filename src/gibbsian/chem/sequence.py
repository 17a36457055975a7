"""Read a sequence: three-letter, one-letter or FASTA, and decide what its ends are."""

from pathlib import Path

from gibbsian.chem.residues import (
    ALIASES,
    C_CAPS,
    CAPS,
    N_CAPS,
    ONE_LETTER,
    SUPPORTED,
)
from gibbsian.errors import InputError

FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".seq")
TERMINI = ("capped", "zwitterionic")


def parse_sequence(text: str) -> list[str]:
    """Return the residue names of a sequence.

    With dashes, each part is a residue or cap name, or else a run of one-letter codes: ``ACE-ALA-NME`` has one alanine,
    ``ACE-AAA-NME`` three, ``A-L-A`` is Ala-Leu-Ala. Without dashes every letter is a residue: ``GYDPETGTWG``. A lone
    residue name such as ``ALA`` could mean either and is refused. Histidine is HIE unless named otherwise.

    Raises
    ------
    InputError
        Naming the position of what cannot be read.
    """
    text = text.strip()
    if not text:
        raise InputError("sequence: empty; give for example ACE-ALA-NME or GYDPETGTWG")
    if "-" not in text:
        name = _residue(text)
        if name in CAPS:
            raise InputError(f"sequence {text!r}: a cap alone is no peptide; give for example ACE-ALA-NME")
        if name is not None and len(text) == 3:
            spelt = "-".join(text.upper())
            raise InputError(f"sequence {text!r}: may mean one residue or three; write {spelt} or {text}-NME")
        return _letters(text, text, 0)
    names, position = [], 0
    for part in text.split("-"):
        if not part:
            raise InputError(f"sequence {text!r}: nothing between two dashes at position {position + 1}")
        name = _residue(part)
        found = [name] if name is not None else _letters(part, text, position)
        names.extend(found)
        position += len(found)
    _check_caps(names, text)
    return names


def _residue(part: str) -> str | None:
    name = ALIASES.get(part.upper(), part.upper())
    return name if name in SUPPORTED else None


def _letters(part: str, text: str, position: int) -> list[str]:
    if len(part) > 1 and part.lower() != part and not set(part) <= set(ONE_LETTER) and len(part) == 3 and "-" in text:
        known = ", ".join(sorted(SUPPORTED))
        raise InputError(f"sequence {text!r}: unknown residue {part!r} at position {position + 1}; known are {known}")
    names = []
    for k, letter in enumerate(part):
        if letter not in ONE_LETTER:
            hint = "; capitals are L-residues, D-residues are not supported" if letter.upper() in ONE_LETTER else ""
            known = "".join(sorted(ONE_LETTER))
            where = f"at position {position + k + 1}"
            raise InputError(f"sequence {text!r}: unknown residue {letter!r} {where}; known are {known}{hint}")
        names.append(ONE_LETTER[letter])
    return names


def _check_caps(names: list[str], text: str) -> None:
    for k, name in enumerate(names):
        if name in N_CAPS and k > 0:
            raise InputError(f"sequence {text!r}: {name} at position {k + 1}; it can only come first")
        if name in C_CAPS and k < len(names) - 1:
            raise InputError(f"sequence {text!r}: {name} at position {k + 1}; it can only come last")
    if all(name in CAPS for name in names):
        raise InputError(f"sequence {text!r}: caps without a residue; give for example ACE-ALA-NME")


def with_termini(names: list[str], termini: str | None) -> tuple[list[str], str]:
    """Apply or infer the termini.

    Returns the names, with ACE and NME added for ``capped`` where a cap is missing, and ``capped``, ``zwitterionic``
    or, for one cap only, ``custom``. Without a request the sequence decides: no caps, charged ends.

    Raises
    ------
    InputError
        For an unknown word, or ``zwitterionic`` on a capped sequence.
    """
    first, last = names[0] in N_CAPS, names[-1] in C_CAPS
    if termini is not None and termini not in TERMINI:
        raise InputError(f"termini: got {termini!r}; choose one of {', '.join(TERMINI)}")
    if termini == "zwitterionic" and (first or last):
        cap = names[0] if first else names[-1]
        raise InputError(f"termini: zwitterionic, but the molecule has the cap {cap}; remove it or choose capped")
    if termini == "capped":
        names = [*([] if first else ["ACE"]), *names, *([] if last else ["NME"])]
        return names, "capped"
    kind = "capped" if first and last else "custom" if first or last else "zwitterionic"
    return list(names), kind


def read_fasta(path: Path) -> str:
    """Return the one-letter sequence of a FASTA file with a single record (a header line is optional).

    Raises
    ------
    InputError
        If the file is missing, empty, not text, or holds several records.
    """
    lines = read_lines(path)
    headers = [line for line in lines if line.startswith(">")]
    if len(headers) > 1:
        raise InputError(f"{path}: {len(headers)} records; keep one, several chains are not supported")
    letters = "".join(line.strip() for line in lines if line.strip() and line[0] not in ">;").replace(" ", "")
    letters = letters.rstrip("*")
    if not letters:
        raise InputError(f"{path}: no sequence in it; give one record in one-letter codes")
    if "-" in letters:
        raise InputError(f"{path}: has gaps or three-letter names; give one record in one-letter codes")
    try:
        return "".join(_checked(letters))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _checked(letters: str) -> str:
    _letters(letters, letters if len(letters) <= 30 else letters[:27] + "...", 0)
    return letters


def read_lines(path: Path) -> list[str]:
    """Lines of a text file; a missing, unreadable or empty one is an InputError."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file")
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the name") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file; give FASTA, PDB or mmCIF") from error
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: is empty; give FASTA, PDB or mmCIF")
    return lines
