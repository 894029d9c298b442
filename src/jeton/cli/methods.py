"""`jeton methods`: every registered system with its room, paper and what was verified."""

import typer

from jeton.cli.common import print_json


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example:\n\n  jeton methods --room drafters")(methods)


def methods(
    room: str = typer.Option("", help="Only this family."),
    as_json: bool = typer.Option(False, "--json", help="Print the rows as one JSON document."),
) -> None:
    """List the methods that can be named on the command line."""
    from jeton.core.registry import did_you_mean
    from jeton.errors import UnknownMethodError
    from jeton.report.catalogue import all_rows

    rows = all_rows()
    families = sorted({row["family"] for row in rows})
    if room:
        if room not in families:
            raise UnknownMethodError(
                f"there is no family {room!r}; there are: {', '.join(families)}",
                hint=did_you_mean(room, families),
            )
        rows = [row for row in rows if row["family"] == room]
    if as_json:
        print_json({"schema_version": 1, "methods": rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("family", "method", "what it does", "verified", "paper", box=None)
    for row in rows:
        table.add_row(row["family"], row["name"], row["summary"], row["verified"], f"{row['year']}")
    Console().print(table)
