"""Request ids: genuine ones pass, every other is refused, and all workers agree."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.events import new_event_id
from serving.api.signature import KEY_FILE, SignatureError, Signer, open_signer

SECRET = "0123456789abcdef" * 2
EVENT_ID = "0192d3c05a7b7def8123456789abcdef"


def test_a_signed_id_passes_and_begins_with_its_event() -> None:
    signer = Signer(b"secret")
    request_id = signer.sign(EVENT_ID)
    assert request_id == EVENT_ID + "97c39aae7cc1349d"
    assert signer.check(request_id)
    assert signer.check(signer.sign(new_event_id()))


@given(position=st.integers(0, 47), digit=st.sampled_from("0123456789abcdef"))
def test_no_digit_can_be_changed(position: int, digit: str) -> None:
    signer = Signer(b"secret")
    request_id = signer.sign(EVENT_ID)
    changed = request_id[:position] + digit + request_id[position + 1 :]
    assert signer.check(changed) == (changed == request_id)


@pytest.mark.parametrize(
    "forged",
    ["", "r", EVENT_ID, EVENT_ID + "0" * 16, EVENT_ID.upper() + "97c39aae7cc1349d", "é" * 48,
     EVENT_ID + "\uff18" * 16, f" {EVENT_ID}97c39aae7cc1349d", "warm-up"],
)  # fmt: skip
def test_forged_ids_are_refused(forged: str) -> None:
    assert not Signer(b"secret").check(forged)


def test_another_key_refuses() -> None:
    assert not Signer(b"other").check(Signer(b"secret").sign(EVENT_ID))


def test_the_environment_s_secret_is_used_and_nothing_is_kept(tmp_path: Path) -> None:
    assert open_signer(tmp_path, SECRET).check(Signer(SECRET.encode()).sign(EVENT_ID))
    assert not list(tmp_path.iterdir())


def test_a_kept_secret_is_the_owner_s_alone_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    request_id = open_signer(folder, None).sign(EVENT_ID)
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert open_signer(folder, None).check(request_id)


def test_workers_that_start_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serving.api.signature import open_signer\n"
        "sys.stdin.read(1)\n"
        f"print(open_signer(Path(sys.argv[1]), None).sign({EVENT_ID!r}))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("g")
        worker.stdin.flush()
    assert len({worker.communicate()[0] for worker in workers}) == 1


def test_short_secrets_are_refused(tmp_path: Path) -> None:
    message = "CASCADE_SIGNING_KEY has 5 characters and needs at least 32; make one with `openssl"
    with pytest.raises(SignatureError, match=message):
        open_signer(tmp_path, "short")
    (tmp_path / KEY_FILE).write_text("cut")
    with pytest.raises(SignatureError, match=r"signing\.key has 3 characters .*; restore it, or"):
        open_signer(tmp_path, None)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SignatureError, match=r"signing\.key cannot be used \(.*\); make it reada"):
        open_signer(tmp_path / "file", None)
