import mmap
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssul_mmseg import machine
from ssul_mmseg.machine import free_disk, free_memory, processes_here, reused_memory, usable_cores, watch_memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes the files in which the system reports memory, and points the module to them."""
    monkeypatch.setattr(machine, 'MEMORY', tmp_path / 'meminfo')
    monkeypatch.setattr(machine, 'GROUPS', tmp_path / 'groups')
    monkeypatch.setattr(machine, 'MEMORY_GROUPS', {'memory': (tmp_path, 'limit', 'used', 'inactive_file')})

    def write(folder='', **files):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / folder / {'stat': 'memory.stat'}.get(name, name)).write_text(text)
    return write


def test_pages_that_only_repeat_files_are_free(system):
    system(meminfo='MemTotal:  900 kB\nMemFree:  100 kB\nMemAvailable:   700 kB\n')
    assert free_memory() == 700 * 1024
    system(limit='600000\n', used='500000\n')
    assert free_memory() == 700 * 1024  # a group whose pages are not counted is not understood
    system(stat='anon 7\ninactive_file 300000\nworkingset_inactive_file 5\n')
    assert free_memory() == 400_000
    system(limit='max\n')
    assert free_memory() == 700 * 1024


def test_the_tightest_limit_of_a_job_and_what_it_is_part_of_holds(system):
    system(meminfo='MemAvailable:   700 kB\n', groups='9:pids:/\n4:memory:/slurm/job_7\n0::/other\n')
    system('slurm/job_7', limit='900000\n', used='600000\n', stat='inactive_file 0\n')
    assert free_memory() == 300_000
    system('slurm', limit='500000\n', used='450000\n', stat='inactive_file 0\n')
    assert free_memory() == 50_000
    system('other', limit='1\n', used='1\n', stat='inactive_file 0\n')
    assert free_memory() == 50_000


def test_without_a_word_of_the_system_free_pages_count(system):
    assert free_memory() > 0
    system(meminfo='MemFree:  100 kB\n')
    assert free_memory() > 0


def test_memory_beyond_the_limit_is_none(system):
    system(meminfo='MemAvailable: 700 kB\n', limit='100\n', used='500\n', stat='inactive_file 50\n')
    assert free_memory() == 0


def test_cores_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, list(allowed)[:1])
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)


def test_disk(tmp_path):
    status = os.statvfs(tmp_path)
    assert 0 < free_disk(tmp_path / 'new') <= status.f_blocks * status.f_frsize and (tmp_path / 'new').is_dir()


@pytest.mark.parametrize('variables, world, here', [
    ({}, 1, 1), ({}, 8, 8), ({'LOCAL_WORLD_SIZE': '4'}, 8, 4), ({'SLURM_NTASKS_PER_NODE': '2'}, 8, 2),
    ({'SLURM_NTASKS_PER_NODE': '8'}, 1, 1), ({'LOCAL_WORLD_SIZE': 'four'}, 8, 8),
])
def test_processes_of_this_machine(monkeypatch, variables, world, here):
    for name in machine.LOCAL_SIZES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, 'get_world_size', lambda: world)
    assert processes_here() == here


@pytest.mark.skipif(not machine.PEAK_RESET.exists(), reason='only Linux says')
def test_the_peak_of_memory_is_that_since_the_watch_began(tmp_path, monkeypatch):
    def used(megabytes):
        peak = watch_memory()
        bytearray(megabytes * 2**20)[::4096] = b'x' * (megabytes * 256)  # a page counts once it is written
        return peak()
    few = used(1)
    assert 380 * 2**20 < used(400) - few < 450 * 2**20
    assert used(1) - few < 50 * 2**20
    monkeypatch.setattr(machine, 'PEAK_RESET', tmp_path / 'nowhere' / 'clear_refs')
    assert watch_memory()() is None


MEGABYTES = 60
PAGES = MEGABYTES * 2 ** 20 // resource.getpagesize()


def pages_are_counted():
    """Whether the system counts the pages that it fills, each alone: huge ones are few."""
    with mmap.mmap(-1, MEGABYTES * 2 ** 20) as memory:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        memory.write(bytes(len(memory)))
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before > .9 * PAGES


REUSES = not torch.cuda.is_available() and platform.libc_ver()[0] == 'glibc' and pages_are_counted()


def faults_of_a_new_tensor():
    """Pages that the system has to fill when 60 MB are written after 64 were freed; the least of four counts."""
    counts = []
    for _ in range(4):
        torch.ones(64 * 2 ** 18)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(MEGABYTES * 2 ** 18)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)


@pytest.mark.skipif(not REUSES, reason='for CPUs and glibc, where pages are counted')
def test_a_large_tensor_takes_freed_memory_and_later_it_is_given_back():
    # In a process of its own, whose heap no other test has filled.
    code = 'import test_machine; test_machine.check_reuse()'
    subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parent, check=True)


def check_reuse():
    """Fail if a large tensor does not take freed memory, or what is kept is not given back."""
    with reused_memory() as give_back:
        assert faults_of_a_new_tensor() < .1 * PAGES
        kept = resident_after_a_tensor()
        give_back()
        assert resident() < kept - 100 * 2 ** 20
        kept = resident_after_a_tensor()
    assert resident() < kept - 100 * 2 ** 20


def resident_after_a_tensor():
    """Bytes of this process in memory after 128 MB were written and freed."""
    torch.ones(128 * 2 ** 18)
    return resident()


def resident():
    """Bytes of this process that are in memory."""
    return int(re.search(r'VmRSS:\s+(\d+) kB', machine.STATUS.read_text())[1]) * 1024


def test_where_a_gpu_computes_nothing_changes(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(machine.ctypes, 'CDLL', lambda name: pytest.fail('the C library is asked'))
    with reused_memory() as give_back:
        give_back()
