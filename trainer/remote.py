"""What a URL of remote storage means: an object store as a pyarrow file system, asked with patience. Knows no trial.

A URL may hold keys. They go to the store and are shown to nobody.
"""

import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from mmap import mmap
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# A request that is refused, dropped or answered with 5xx is repeated so often: once at once, then after 50 ms, 100 ms
# and so on, which is given up after 13 s.
RETRIES = 9
# It is repeated, too, after so many seconds without a connection or a byte: a silent store is given up after 63 s.
# (pyarrow says that `request_timeout` does nothing on Linux. It does: less than a byte a second counts as silence.)
SILENCE_SECONDS = 5.0
# Google's client knows only a limit for all its tries; its own is a quarter of an hour.
GOOGLE_SECONDS = 60

_S3_WORDS = ("endpoint_override", "region", "scheme", "tls_ca_file_path")
_S3_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
# Words in the answers of stores, as pyarrow passes them on.
_IS_ELSEWHERE = ("NO_SUCH_BUCKET", "HTTP status 301")
_IS_DENIED = ("DENIED", *(f"HTTP status {s}" for s in (400, 401, 403)), "ACCESS_KEY", "SIGNATURE", "TOKEN", "UNAUTH")
_IS_AWAY = ("NETWORK_CONNECTION", "HTTP status 5", "INTERNAL_FAILURE", "UNAVAILABLE", "SLOW_DOWN", "TIMEOUT")


def arrow_fs() -> Any:
    """pyarrow's file systems, loaded by whoever opens a storage: `mixgrid --help` does not wait for them."""
    import pyarrow.fs

    return pyarrow.fs


@dataclass(frozen=True, slots=True)
class Remote:
    """A file system, the folder in it, and the secrets that its URL holds."""

    filesystem: "FileSystem"
    root: str
    secrets: tuple[str, ...]


def open_remote(url: str) -> Remote:
    """Open what a URL names.

    S3 takes `?endpoint_override=…&region=…&scheme=…&tls_ca_file_path=…` and, as AWS's own tools do, the endpoint from
    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL where the URL has none. Keys come from the URL (`s3://key:secret@bucket/…`),
    the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or ~/.aws.

    Raises: ValueError for a URL that is none of a storage; OSError where the region of a bucket cannot be found out.
    """
    shown = without_keys(url)
    try:
        parts = urlsplit(url)
        if parts.scheme == "s3":
            bucket, root = _bucket(parts), f"{_bucket(parts)}{unquote(parts.path)}".rstrip("/")
            filesystem = _open_s3(parts, bucket)
        else:
            filesystem, root = arrow_fs().FileSystem.from_uri(_with_limit(url, parts))
    except (ValueError, OSError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"cannot open the storage {shown}: {str(error).replace(url, shown)}") from None
    secret = parts.password
    return Remote(filesystem, root, (secret, unquote(secret)) if secret else ())


def without_keys(url: str) -> str:
    """A URL as a person may see it: without keys, and without its query."""
    scheme, _, rest = url.partition("://")
    place = rest.partition("?")[0]
    if "@" in place and ":" in place.partition("@")[0]:  # of the last @, since a key may hold a / by mistake
        place = place.rpartition("@")[2]
    return f"{scheme}://{place.rstrip('/')}"


def _bucket(parts: SplitResult) -> str:
    bucket = parts.netloc.rpartition("@")[2]
    if not bucket or ":" in bucket or parts.fragment:
        raise ValueError("s3://BUCKET/FOLDER or s3://KEY:SECRET@BUCKET/FOLDER is wanted, with / as %2F in a secret")
    return bucket


def _open_s3(parts: SplitResult, bucket: str) -> "FileSystem":
    words = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = words.keys() - set(_S3_WORDS)
    if unknown:
        raise ValueError(f"after ? it may say {', '.join(_S3_WORDS)}, but not {', '.join(sorted(unknown))}")
    for variable in _S3_ENDPOINT_VARIABLES:
        if os.environ.get(variable):
            words.setdefault("endpoint_override", os.environ[variable])
    if not words.keys() & {"endpoint_override", "region"}:
        words["region"] = arrow_fs().resolve_s3_region(bucket)
    return arrow_fs().S3FileSystem(
        access_key=parts.username and unquote(parts.username),
        secret_key=parts.password and unquote(parts.password),
        connect_timeout=SILENCE_SECONDS,
        request_timeout=SILENCE_SECONDS,
        retry_strategy=arrow_fs().AwsDefaultS3RetryStrategy(max_attempts=RETRIES),
        **words,
    )


def _with_limit(url: str, parts: SplitResult) -> str:
    if parts.scheme not in ("gs", "gcs") or "retry_limit_seconds" in parts.query:
        return url
    query = urlencode({**dict(parse_qsl(parts.query)), "retry_limit_seconds": str(GOOGLE_SECONDS)})
    return parts._replace(query=query).geturl()


def put(filesystem: "FileSystem", path: str, content: bytes | mmap) -> None:
    """Write an object so that it appears whole or not at all.

    pyarrow publishes what a stream holds as soon as it is closed, be it by an error in between or by the end of its
    life, and cannot abort. So nothing may come between opening and writing, not even Ctrl-C, which Python raises in the
    main thread alone: another thread writes, to the end.
    """
    if threading.current_thread() is not threading.main_thread():
        _put(filesystem, path, content)
        return
    done: Future[None] = Future()

    def write() -> None:
        try:
            _put(filesystem, path, content)
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=write, name="put").start()
    done.result()


def _put(filesystem: "FileSystem", path: str, content: bytes | mmap) -> None:
    with filesystem.open_output_stream(path) as stream:  # an upload of which a part failed is never completed
        stream.write(content)


def refuse_missing_bucket(filesystem: "FileSystem", root: str) -> None:
    """Raises: OSError where there is no such bucket, which pyarrow shows as an empty one, or where nobody can tell."""
    if filesystem.type_name not in ("s3", "gcs"):
        return
    bucket = root.partition("/")[0]
    try:
        is_there = filesystem.get_file_info(bucket).type != arrow_fs().FileType.NotFound
    except OSError as error:
        if not _says(str(error), _IS_DENIED):
            raise
        is_there = True  # keys for a folder alone may not ask for its bucket
    if not is_there:
        raise OSError(f"NO_SUCH_BUCKET: there is no bucket {bucket!r}")


def may_be_gone(error: OSError) -> bool:
    """Whether a file may have gone between the questions for its length and for its bytes."""
    return "during GetObject" in str(error)


def advice(message: str) -> str:
    """What to look at after an answer of a store; empty where the answer says it all."""
    if _says(message, _IS_ELSEWHERE):
        return (
            "; look at the bucket's name and at where it is asked for (?endpoint_override=…&region=… in the URL, or "
            "AWS_ENDPOINT_URL)"
        )
    if _says(message, _IS_DENIED):
        return (
            "; look at the keys (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or those in the URL) and at what "
            "they are allowed: to list the bucket and to read, write and delete in it"
        )
    if _says(message, _IS_AWAY):
        return f" (after {RETRIES} more tries; what is safe stays so: run again once the storage answers)"
    return ""


def _says(message: str, words: tuple[str, ...]) -> bool:
    return any(word in message for word in words)
