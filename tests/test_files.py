"""Files are written whole or not at all."""
import errno
import os
import stat

import pytest

from ssul_mmseg.errors import InputError
from ssul_mmseg.work_dir.files import digest, read_json, remove_leftovers, write_atomically, write_json, write_text


def failing(error):
    def write(file):
        file.write(b'half')
        raise error
    return write


def test_a_failure_while_writing_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / 'a.json'
    write_text(path, 'old')
    with pytest.raises(KeyError):
        write_atomically(path, failing(KeyError('x')))
    with pytest.raises(InputError, match=r'cannot write .*a\.json \(No space left on device\).*--resume'):
        write_atomically(path, failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a.json']


def test_what_a_killed_process_leaves_is_removed_later(tmp_path):
    path = tmp_path / 'a.json'
    write_text(path, 'old')
    child = os.fork()
    if not child:
        write_atomically(path, lambda file: os._exit(9))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert path.read_text() == 'old' and sorted(os.listdir(tmp_path)) == [f'.a.json.{child}.tmp', 'a.json']
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ['a.json']


def test_content_is_on_disk_before_it_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        status = os.fstat(descriptor)
        events.append('folder' if stat.S_ISDIR(status.st_mode) else f'{status.st_size} bytes')
        fsync(descriptor)
    monkeypatch.setattr(os, 'fsync', noted_fsync)
    monkeypatch.setattr(os, 'replace', lambda *paths: (events.append('name'), replace(*paths)))
    write_text(tmp_path / 'a.txt', 'whole')
    assert events == ['5 bytes', 'name', 'folder']


def test_missing_folders_are_made_and_a_file_in_their_place_is_reported(tmp_path):
    write_text(tmp_path / 'a/b/c.txt', 'ä')
    assert (tmp_path / 'a/b/c.txt').read_bytes() == 'ä'.encode()
    with pytest.raises(InputError, match=r'cannot write .*d\.txt \(File exists\)'):
        write_text(tmp_path / 'a/b/c.txt/d.txt', '')


def test_a_read_only_folder_is_reported(tmp_path):
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip('root writes into any folder')
    with pytest.raises(InputError, match=r'cannot write .*a\.txt \(Permission denied\)'):
        write_text(tmp_path / 'a.txt', '')


def test_json_round_trip_and_no_nan(tmp_path):
    content = {'ä': [1, 2.5, None, True], 'b': {}}
    write_json(tmp_path / 'a.json', content)
    assert read_json(tmp_path / 'a.json') == content and 'ä' in (tmp_path / 'a.json').read_text(encoding='utf-8')
    for number in ('nan', 'inf'):
        with pytest.raises(ValueError, match='Out of range float'):
            write_json(tmp_path / 'a.json', [float(number)])
    assert read_json(tmp_path / 'a.json') == content


# The last is half of a character, which no file can hold.
@pytest.mark.parametrize('content', [b'', b'{"a": 1', b'\xff\xfe', b'[' * 100_000, rb'"\ud800"'], ids=len)
def test_what_is_no_json_is_named(tmp_path, content):
    (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(InputError, match=r'a\.json is not whole JSON'):
        read_json(tmp_path / 'a.json')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'cannot read .*b\.json \(No such file or directory\)'):
        read_json(tmp_path / 'b.json')


def test_leftovers_of_killed_processes_go_and_all_else_stays(tmp_path):
    for name in ('.weights.pth.123.tmp', 'weights.pth', '.lock', '.weights.tmp'):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / 'nowhere')
    assert sorted(os.listdir(tmp_path)) == ['.lock', '.weights.tmp', 'weights.pth']


def test_digest_is_blake2b_of_128_bits():
    assert digest(b'') == 'cae66941d9efbd404e4d88758ea67670'
    assert digest(b'a') != digest(b'b')


def test_a_row_of_whole_numbers_stands_in_one_line(tmp_path):
    content = {'rows': [[1, -20], [3, 4]], 'text': '[\n 1,\n 2\n]', 'empty': [], 'mixed': [1, None]}
    write_json(tmp_path / 'a.json', content)
    text = (tmp_path / 'a.json').read_text()
    assert '\n  [1, -20],\n  [3, 4]\n' in text and read_json(tmp_path / 'a.json') == content
