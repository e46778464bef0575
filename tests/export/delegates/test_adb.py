from __future__ import annotations

import os

import pytest
from support.fake_adb import READY, FakePhones

from export.delegates.adb import PhoneError, find_phone

SERIAL = "14151FDF6"


@pytest.fixture
def phones(tmp_path, monkeypatch):
    made = FakePhones(tmp_path / "phones")
    monkeypatch.setenv("PATH", str(made.home / "path"), prepend=os.pathsep)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    return made


def test_the_only_phone_is_taken_and_asked(phones):
    phone = find_phone()
    assert phone.serial == SERIAL
    assert phone.property("ro.product.model") == "Pixel 6"
    assert phone.property("ro.no.such") == ""


def test_one_of_several_is_chosen_by_serial_or_by_adbs_own_variable(phones, monkeypatch):
    phones.set(devices={"A": READY, "B": READY})
    with pytest.raises(PhoneError, match=r"2 phones are connected: A \(Pixel 6\), B .*--adb SERIAL"):
        find_phone()
    assert find_phone("B").serial == "B"
    monkeypatch.setenv("ANDROID_SERIAL", "A")
    assert find_phone().serial == "A"
    with pytest.raises(PhoneError, match=r"the phone C is not connected; adb sees: A"):
        find_phone("C")


def test_one_that_is_ready_is_taken_among_others_that_are_not(phones):
    phones.set(devices={"A": "offline", "B": READY, "C": "unauthorized usb:1-2 transport_id:3"})
    assert find_phone().serial == "B"


@pytest.mark.parametrize(
    ("listed", "advice"),
    [
        ("offline", "adb reconnect"),
        ("unauthorized usb:1-2 transport_id:3", "accept this computer's key"),
        (
            "no permissions (user in plugdev group; are your udev rules wrong?); see "
            "[http://developer.android.com/tools/device.html] usb:1-1",
            "udev rules",
        ),
        ("recovery", "adb reboot"),
        ("host", "plug it in again"),
    ],
)
def test_a_phone_that_is_not_ready_comes_with_what_helps(phones, listed, advice):
    phones.set(devices={SERIAL: listed})
    with pytest.raises(PhoneError, match=rf"the phone {SERIAL} is not ready .*{advice}"):
        find_phone()


def test_no_phone_and_no_adb_come_with_how_to_get_them(phones, monkeypatch, tmp_path):
    phones.set(devices={})
    with pytest.raises(PhoneError, match=r"no phone is connected; .*USB debugging"):
        find_phone()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PhoneError, match=r"adb is not installed; .*apt-get install adb"):
        find_phone()


@pytest.mark.parametrize("old", [False, True], ids=["android 14", "android 6"])
def test_commands_give_what_they_print_and_their_exit_code(phones, old):
    phones.set(old=old)
    phone = find_phone()
    assert phone.run(["echo", "two words", "$HOME"]).output == "two words $HOME\n"
    assert phone.run(["sh", "-c", "echo lost >&2; exit 3"]).code == 3
    assert "lost" in phone.run(["sh", "-c", "echo lost >&2; exit 3"]).output
    missing = phone.run(["/data/local/tmp/nosuch"])
    assert missing.code == 127
    assert "not found" in missing.output


def test_a_folder_on_the_phone_is_there_until_the_end(phones, tmp_path):
    phone = find_phone()
    (tmp_path / "file").write_bytes(b"content")
    with phone.folder() as folder:
        phone.push(tmp_path / "file", f"{folder}/file")
        assert phone.run(["cat", f"{folder}/file"]).output == "content"
    assert phones.left == []


def test_a_folder_on_the_phone_is_removed_after_a_failure_too(phones, tmp_path):
    phone = find_phone()
    with pytest.raises(PhoneError, match="nosuch"), phone.folder() as folder:
        phone.push(tmp_path / "nosuch", f"{folder}/file")
    assert phones.left == []


def test_copying_fails_with_adbs_own_reason(phones, tmp_path):
    phone = find_phone()
    with pytest.raises(PhoneError, match=r"cannot stat .*No such file"):
        phone.push(tmp_path / "nosuch", "/data/local/tmp/file")
    phones.set(full=True)
    (tmp_path / "file").touch()
    with pytest.raises(PhoneError, match="No space left on device"):
        phone.push(tmp_path / "file", "/data/local/tmp/file")


@pytest.mark.parametrize("state", ["offline", "unauthorized"])
def test_a_phone_that_stops_answering_is_reported(phones, state):
    phone = find_phone()
    phones.set(devices={SERIAL: state})
    with pytest.raises(PhoneError, match=f"does not answer: device {state}"):
        phone.run(["true"])
