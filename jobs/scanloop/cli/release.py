"""`scanloop release`: export a champion, sign it, publish it; and the signer process itself."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from scanloop.cli.options import (
    AttemptOption,
    ProductLineArg,
    RunIdOption,
    RunOptions,
    World,
    load_definition,
    open_world,
    print_result,
    run_job,
)

app = typer.Typer(
    no_args_is_help=True,
    help="From champion to signed release. Jobs `export` and `publish` run in Airflow; `init` and `sign` belong to the signer, "
    "whose keys no job can read.",
)

SignerHomeOption = Annotated[
    Path | None,
    typer.Option("--signer-home", envvar="SCANLOOP_SIGNER_HOME", help="Folder of the signer's keys.", show_default="<home>/signer"),
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        envvar="SCANLOOP_SIGNER_PASSPHRASE_FILE",
        help="File, or /dev/fd/N, with the passphrase of the keys.",
        show_default="<signer home>/passphrase",
    ),
]


@app.command("init")
def init(
    product_line: Annotated[
        list[str] | None, typer.Option("--product-line", help="Product line to sign for; may be repeated.", show_default="every active one")
    ] = None,
    signer_home: SignerHomeOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Hold the key ceremony: make keys, sign the first root, delegate to product lines, publish. Run again to add product lines."""
    from scanloop.release.ceremony import check_apart, hold_ceremony, signer_lock
    from scanloop.release.keys import open_keys
    from scanloop.release.signer import utc_now
    from scanloop.store import open_store

    world = open_world()
    with closing(world.catalog):
        settings = world.settings
        home = _signer_home(signer_home, world)
        check_apart(home, [settings.store_url, settings.landing_url, settings.channel_url, settings.truth_url], [settings.work])
        for name in product_line or []:
            load_definition(world.catalog, name)
        lines = product_line or _active_product_lines(world)
    keys = open_keys(home, passphrase_file, make=True)
    with signer_lock(home):
        ceremony = hold_ceremony(keys, open_store(settings.channel_url), lines, utc_now())
    print_result({**ceremony.to_json(), "signer_home": str(home), "channel_url": settings.channel_url})


@app.command("sign")
def sign(
    once: Annotated[bool, typer.Option("--once", help="Answer what is asked now, then stop.")] = False,
    poll_s: Annotated[float, typer.Option("--poll-s", min=0.1, help="Seconds between two looks at the requests.")] = 1.0,
    signer_home: SignerHomeOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Run the signer: authenticate each request, sign or refuse it, and keep the channel fresh. Never run it inside Airflow."""
    from scanloop.release.ceremony import signer_lock
    from scanloop.release.keys import open_keys
    from scanloop.release.signer import Signer, run_signer
    from scanloop.store import open_store

    world = open_world()
    with closing(world.catalog):
        home = _signer_home(signer_home, world)
        keys = open_keys(home, passphrase_file)
        with signer_lock(home):
            signer = Signer(keys, world.store, open_store(world.settings.channel_url), world.catalog)
            signer.refresh()
            if once:
                answers = signer.answer_all()
                print_result({outcome: [a.release_id for a in answers if a.outcome == outcome] for outcome in ("released", "refused")})
                return
            stop = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            run_signer(signer, poll_s=poll_s, stop=stop)


@app.command("export")
def export(product_line: ProductLineArg, run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Export the champion to ONNX, check that it answers as the trained model, and store the bundle of the next release."""
    from scanloop.release.export import export_release

    run_job(
        "release.export",
        lambda run: export_release(run, product_line),
        product_line=product_line,
        options=RunOptions(run_id, attempt),
        lease="release",
    )


@app.command("publish")
def publish(
    product_line: ProductLineArg,
    release: Annotated[str, typer.Option("--release", help="Id of the release to publish.", show_default=False)],
    wait_s: Annotated[float, typer.Option("--wait-s", min=0, help="Seconds to wait for the signer.")] = 120.0,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Ask the signer for a release and wait for its answer: 0 released, 65 refused, 75 the signer is away."""
    from scanloop.errors import DataWrong
    from scanloop.release.publish import publish_release

    result = run_job(
        "release.publish",
        lambda run: publish_release(run, product_line, release, wait_s=wait_s),
        product_line=product_line,
        options=RunOptions(run_id, attempt),
        lease="release",
    )
    if result["state"] == "refused":
        raise DataWrong(f"The signer refused release {release}: {result['reason']}")


@app.command("enrol-device")
def enrol_device(
    enrolment: Annotated[
        Path, typer.Option("--enrolment", help="The file enrolment.json that `scanloop edge enrol` wrote.", show_default=False)
    ],
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Record a device in the catalog."""
    from scanloop.errors import WrongArguments
    from scanloop.release.enrolment import enrol_device as enrol

    try:
        content = enrolment.read_bytes()
    except OSError as error:
        raise WrongArguments(f"{enrolment} cannot be read: {error.strerror}.") from None
    run_job("release.enrol-device", lambda run: enrol(run, content), options=RunOptions(run_id, attempt), lease="devices")


def _signer_home(given: Path | None, world: World) -> Path:
    return (given or world.settings.home / "signer").expanduser().absolute()


def _active_product_lines(world: World) -> list[str]:
    import sqlalchemy as sa

    from scanloop.catalog.tables import product_lines
    from scanloop.errors import WrongArguments

    statement = sa.select(product_lines.c.product_line).where(product_lines.c.is_active).order_by(product_lines.c.product_line)
    with world.catalog.read() as connection:
        lines = list(connection.execute(statement).scalars())
    if not lines:
        raise WrongArguments("The catalog has no active product line. Run `scanloop definitions apply`, or name one with --product-line.")
    return lines
