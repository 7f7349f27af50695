"""Texts that a flag names: those that come with the project by a name, any other by its path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.command_line import UserError
from model_definition.mistakes import did_you_mean

MAX_FILE_BYTES = 65_536


@dataclass(frozen=True)
class ShippedTexts:
    """Texts of one kind.

    Attributes:
      folder: where those are that come with the project, as `NAME.txt`; the first line of each is
        a comment that describes it.
      kind: what one is called, and the flag that names it.
      content: what a text holds, for the error about a file that is too long.
    """

    folder: Path
    kind: str
    content: str

    def describe(self) -> dict[str, str]:
        """Returns the first comment of each text that comes with the project, by name."""
        return {
            path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
            for path in sorted(self.folder.glob("*.txt"))
        }

    def read(self, text: str) -> tuple[Path, str]:
        """Reads a text.

        Args:
          text: the name of one that comes with the project, or a file's path.

        Returns:
          The file's path and what it holds.

        Raises:
          UserError: there is none, or it is too long, or not UTF-8.
        """
        path = self._find(text)
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise UserError(
                f"{path}: longer than {MAX_FILE_BYTES:,} bytes, so not a {self.kind} of "
                f"{self.content}"
            )
        try:
            return path, content.decode("utf-8-sig")  # Some editors begin with a byte order mark.
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise UserError(f"{path}, line {line}: not text; save the file as UTF-8") from None

    def _find(self, text: str) -> Path:
        names = list(self.describe())
        path = self.folder / f"{text}.txt" if text in names else Path(text)
        if not path.is_file():
            raise UserError(
                f"--{self.kind}={text}: found neither a {self.kind} of that name nor a file"
                f"{did_you_mean(text, names)}; there are {', '.join(names)}, and "
                f"--{self.kind}=help describes them"
            )
        return path
