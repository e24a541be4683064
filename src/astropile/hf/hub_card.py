"""
The dataset card of a dataset pushed to the Hugging Face Hub.

`datasets` writes which files there are and what types columns have. This adds what it drops:
licence, tags, size, description, acknowledgement, citation, and a table of columns and units.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets.features.features import LargeList, _ArrayXD
from datasets.info import DatasetInfosDict
from huggingface_hub import CommitInfo, CommitOperationAdd, DatasetCard, HfApi

from astropile.card import is_spdx, size_category
from astropile.hf.describe import MADE_BY

_README = "README.md"
_TAGS = ("astronomy", "astropile")


def complete_pushed(data: Any, own: Any, commit: Any, args: Any, kwargs: Any) -> Any:
    """
    Complete the card of what was pushed just now.

    Parameters
    ----------
    data : Dataset, IterableDataset, or a dict of them
        What was pushed.
    own : callable
        The method of `datasets` that pushed it.
    commit : CommitInfo or None
        What that gave; None where it went to a bucket, which has no card to complete.
    args, kwargs : object
        What it was called with.

    Returns
    -------
    CommitInfo or None
        The commit with the whole card; `commit` for data that are not from here.
    """
    infos = [one.info for one in data.values()] if isinstance(data, dict) else [data.info]
    if not isinstance(commit, CommitInfo) or MADE_BY not in (infos[0].description or ""):
        return commit
    call = inspect.signature(own).bind(data, *args, **kwargs)
    call.apply_defaults()
    token, config_name = call.arguments["token"], call.arguments["config_name"]
    api = HfApi(endpoint=datasets.config.HF_ENDPOINT, token=token)
    repo_id = commit.repo_url.repo_id
    path = api.hf_hub_download(repo_id, _README, repo_type="dataset", revision=commit.oid)
    text = Path(path).read_bytes().decode()
    return api.create_commit(
        repo_id,
        [CommitOperationAdd(_README, complete_card(text, infos[0], repo_id, config_name).encode())],
        commit_message="Complete the dataset card",
        repo_type="dataset",
        revision=commit.pr_revision or call.arguments["revision"],
        parent_commit=commit.oid,
    )


def complete_card(text: str, info: datasets.DatasetInfo, repo_id: str, config_name: str) -> str:
    """
    Add to a card what `datasets` does not write.

    Parameters
    ----------
    text : str
        The card that `datasets` wrote.
    info : DatasetInfo
        What the pushed dataset says of itself.
    repo_id : str
        The repository.
    config_name : str
        The configuration that was pushed.

    Returns
    -------
    str
        The same card. What it says of licence and name stays, and so does its text but for the
        part about this configuration.
    """
    card = DatasetCard(text)
    infos = DatasetInfosDict.from_dataset_card_data(card.data)
    _complete_data(card.data, info, infos, repo_id)
    first, last = f"<!-- astropile: {config_name} -->", f"<!-- end of {config_name} -->"
    part = "\n".join([first, *_part(info, infos[config_name], repo_id, config_name), last])
    body = card.text.strip("\n")
    if first in body and last in body:
        before, _, rest = body.partition(first)
        body = before + part + rest.partition(last)[2]
    else:
        body = f"{body}\n\n{part}" if body else f"# {card.data['pretty_name']}\n\n{part}"
    return f"---\n{card.data.to_yaml()}\n---\n\n{body.strip()}\n"


def _complete_data(
    data: Any,
    info: datasets.DatasetInfo,
    infos: Mapping[str, datasets.DatasetInfo],
    repo_id: str,
) -> None:
    licence = (info.license or "").strip()
    if not data.get("license") and licence:
        data["license"] = licence.lower() if is_spdx(licence) else "other"
        if data["license"] == "other":
            data["license_name"] = "as-stated-below"
    data["pretty_name"] = data.get("pretty_name") or repo_id.rpartition("/")[2]
    data["tags"] = list(dict.fromkeys([*(data.get("tags") or ()), *_TAGS]))
    splits = [split for one in infos.values() for split in (one.splits or {}).values()]
    data["size_categories"] = [size_category(sum(split.num_examples or 0 for split in splits))]


def _part(
    info: datasets.DatasetInfo, pushed: datasets.DatasetInfo, repo_id: str, config_name: str
) -> list[str]:
    name = "" if config_name == "default" else f', "{config_name}"'
    lines = [f"## Configuration `{config_name}`", "", info.description.strip(), ""]
    if info.license:
        lines += ["### Licence", "", info.license.strip(), ""]
    if info.citation:
        lines += ["### Citation", "", "```", info.citation.strip(), "```", ""]
    lines += ["### Columns", "", "| column | type | unit |", "|---|---|---|"]
    lines += [
        f"| `{column}` | {kind} | {unit} |"
        for top, feature in (pushed.features or {}).items()
        for column, kind, unit in _columns(top, feature)
    ]
    return [
        *lines,
        "",
        "### Load",
        "",
        "```python",
        "import datasets",
        "",
        f'dataset = datasets.load_dataset("{repo_id}"{name})',
        "```",
    ]


def _columns(name: str, feature: Any) -> Iterator[tuple[str, str, str]]:
    """Give name, type and unit of each value in a feature."""
    match feature:
        case dict():
            for field, inner in feature.items():
                yield from _columns(f"{name}.{field}", inner)
        case datasets.List() | LargeList():
            yield from _columns(f"{name}[]", feature.feature)
        case _ArrayXD():
            shape = ", ".join("any" if size is None else str(size) for size in feature.shape)
            yield name, f"{feature.dtype} ({shape})", feature.id or ""
        case datasets.Value():
            yield name, feature.dtype, feature.id or ""
        case _:
            yield name, type(feature).__name__, ""
