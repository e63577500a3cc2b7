"""Why a model or its weights could not be had, in words that help: a licence to accept, a token, a name, the network, a file."""

from collections.abc import Sequence

from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

HUB_PAGES = "https://huggingface.co"
SHOWN = 300  # characters of a list of tensors that an error shows
TOKEN = f"make a token with read access on {HUB_PAGES}/settings/tokens and set HF_TOKEN (or run `hf auth login`)"


def why_not(name: str, error: Exception, repository: str | None = None, tagged: Sequence[str] = ()) -> str:
    """The reason why the model `name` (as timm is asked for it) could not be made, and what to do.

    `repository` has the weights of a model of timm's own, whose name may leave out its tag; `tagged` are its names that have weights.
    """
    where = name.partition(":")[2].partition("@")[0] or repository or f"timm/{name}"
    found = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if isinstance(error, GatedRepoError):
        return _gated(where)
    if isinstance(error, RepositoryNotFoundError):
        return f"The hub knows no model {where!r}, or it is private. Mend the name ({HUB_PAGES}/{where}); for a private one, {TOKEN}."
    if isinstance(error, RevisionNotFoundError):
        return f"The hub has {where!r}, but no revision {name.partition('@')[2]!r}. Expected one of {HUB_PAGES}/{where}/commits/main."
    if isinstance(error, RemoteEntryNotFoundError):
        return f"The hub has {where!r}, but not for timm (config.json and weights). Expected one of {HUB_PAGES}/models?library=timm."
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"The hub refuses the token that was found (HF_TOKEN, or that of `hf auth login`): it is wrong or expired; {TOKEN}."
    if isinstance(error, LocalEntryNotFoundError | HfHubHTTPError | ConnectionError):
        return _out_of_reach(name, where, found)
    if isinstance(error, RuntimeError) and ("No pretrained weights exist" in str(error) or "Invalid pretrained tag" in str(error)):
        return _no_weights(name, tagged)
    if isinstance(error, RuntimeError) and "state_dict" in str(error):
        return _does_not_fit(name, str(error))
    return f"Model {name!r} could not be loaded: {found}"


def _gated(where: str) -> str:
    accept = f"Log in on {HUB_PAGES}/{where} and accept its licence there"
    if get_token() is None:
        return f"{where!r} is gated, and there is no token. {accept}; then {TOKEN}."
    return f"{where!r} is gated, and the account of the token that was found has no access. {accept} with that account; it may take days."


def _no_weights(name: str, tagged: Sequence[str]) -> str:
    others = f"one of {', '.join(tagged)}" if tagged else "another model that has some (`timm.list_pretrained()`)"
    return (
        f"There are no published weights of {name!r}. Expected {others}; a file of your own (`weights: FILE` of an encoder); or random "
        "weights, by choice (`weights: random` of an encoder, `init: random` of a run)."
    )


def _out_of_reach(name: str, where: str, found: str) -> str:
    return (
        f"The published weights of {name!r} could not be had: {found}\n"
        "They are fetched from the Hugging Face hub once and kept in its cache (HF_HOME). Connect to the network; where compute nodes have "
        f"none, fetch them on one that has (`hf download {where}`) into an HF_HOME that all see; or choose random weights "
        "(`weights: random` of an encoder, `init: random` of a run)."
    )


def _does_not_fit(name: str, text: str) -> str:
    shown = " ".join(line if len(line) < SHOWN else f"{line[:SHOWN]} …" for line in map(str.strip, text.splitlines()[1:3]))
    return f"The weights are not those of {name!r}. {shown} Expected all of its tensors and no others: mend `timm`, or set `arguments`."
