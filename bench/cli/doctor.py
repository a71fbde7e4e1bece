"""`weightcast doctor`."""

from __future__ import annotations

import json

import typer

from weightcast.bench.cli.app import AsJson, DataFolder, app, clear_errors
from weightcast.bench.printable import printable


@app.command()
@clear_errors
def doctor(as_json: AsJson = False, data: DataFolder = None) -> None:
    """Say what is installed, what each part needs, and whether it works when tried."""
    from weightcast.bench.commands.doctor import examine, to_json

    findings = []
    for finding in examine(data):
        findings.append(finding)
        if as_json:
            continue
        mark = finding.status if finding.needed or finding.status == "ok" else f"({finding.status})"
        typer.echo(f"{mark:10}  {finding.name}: {printable(finding.found)}")
        if finding.status != "ok":
            typer.echo(f"{'':10}  for {finding.for_what}; {printable(finding.mend)}")
    fatal = [finding.name for finding in findings if finding.fatal]
    if as_json:
        typer.echo(json.dumps(to_json(findings), indent=2))
    elif fatal:
        typer.echo(f"does not work: {', '.join(fatal)}")
    else:
        typer.echo("all that is needed works; what stands in brackets is for the parts named")
    if fatal:
        raise typer.Exit(1)
