"""Make of a table the runs that it stands for, each a command of ``ssul train``."""
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli import option_text
from ..errors import InputError
from ..evaluation.compare import paper_row
from ..scenario import Scenario
from .table_file import Row, Table

if TYPE_CHECKING:
    from mmengine.config import Config


@dataclass(frozen=True, eq=False)
class Job:
    """One run.

    Args:
        row: name of the table's row that it belongs to, the method's name in its results.
        config: the config file, or the name of one of the package's.
        folder: its work dir.
        options: config values to change, dotted key to value.
        seed: seed of the run.
        title: what people call it.
        base: the run that trains its task 0, None where it trains its own.
        trains_base: whether it trains task 0 alone, for others to start from.
    """

    row: str
    config: str
    folder: Path
    options: Mapping[str, Any]
    seed: int
    title: str = ''
    base: 'Job | None' = None
    trains_base: bool = False

    @property
    def arguments(self) -> list[str]:
        """The arguments of ``ssul train``; with --resume, so that any worker goes on with what another began."""
        start = ['--start-from', str(self.base.folder)] if self.base else []
        tasks = ['--tasks', '0'] if self.trains_base else []
        options = [f'{key}={option_text(value)}' for key, value in self.options.items()]
        return [self.config, '--work-dir', str(self.folder), '--seed', str(self.seed), *start, *tasks, '--resume',
                *(['--cfg-options', *options] if options else [])]


@dataclass(frozen=True)
class Plan:
    """The runs of a table.

    Args:
        name: the table's, that of its file.
        folder: the folder of all of them.
        bases: runs that train task 0 for several cells, the first stage.
        cells: the runs of which the table is made.
        papers: for some rows the place of their numbers in the paper's tables, see ``evaluation.compare``.
        orders: how many class orders each cell is run with.
    """

    name: str
    folder: Path
    bases: list[Job]
    cells: list[Job]
    papers: dict[str, list[str]]
    orders: int

    @property
    def jobs(self) -> list[Job]:
        """All runs, the first stage first."""
        return [*self.bases, *self.cells]


@dataclass(frozen=True)
class Place:
    """Where a cell stands in the table.

    Args:
        row: its row.
        scenario: such as '15-1'.
        setting: None: the config's own.
        order: name of its class order; None: the config's own.
        seed: its seed.
        base_seed: seed of its task 0.
    """

    row: Row
    scenario: str
    setting: str | None
    order: str | None
    seed: int
    base_seed: int

    @property
    def base_classes(self) -> str:
        """The number of classes of task 0."""
        return self.scenario.partition('-')[0]

    @property
    def sharing(self) -> tuple | None:
        """What cells that share task 0 have in common; None: it shares its own with no other."""
        return (self.row.base, self.base_classes, self.setting, self.order, self.base_seed) if self.row.base else None


def make_plan(table: Table, work_dir: str | None = None, options: Mapping[str, Any] | None = None) -> Plan:
    """Make the runs of a table: each row in each scenario, setting, class order and with each seed.

    Rows with the same ``base`` share task 0 wherever the number of base classes, setting, class order and seed are the
    same; the first of these rows trains it. With the table's ``base_seed`` all seeds share it.

    Args:
        table: the table.
        work_dir: folder of the runs instead of the table's.
        options: config values to change in all runs, over those of the table.

    Raises:
        InputError: two of the runs are the same.
    """
    places = [Place(row, *place, place[-1] if table.base_seed is None else table.base_seed) for row in table.rows
              for place in product(row.scenarios, table.settings, table.orders, row.seeds)]
    common = {**table.options, **(options or {})}
    root = Path(work_dir or table.work_dir)
    groups = Counter(place.sharing for place in places)
    bases: dict[tuple, Job] = {}
    cells = []
    for place in places:
        row, group = place.row, place.sharing
        job = Job(row.name, row.config, root, _options(place, common, table.orders), place.seed)
        if group and (groups[group] > 1 or table.base_seed is not None):
            first = replace(place, seed=place.base_seed)
            bases.setdefault(group, replace(job, folder=_folder(root, f'base {row.base}', first, place.base_classes),
                                            title=f'task 0 of {_title(row.base, first, place.base_classes)}',
                                            seed=first.seed, trains_base=True))
        cells.append(replace(job, folder=_folder(root, row.name, place, place.scenario),
                             title=_title(row.name, place, place.scenario), base=bases.get(group or ())))
    papers = {row.name: row.paper for row in table.rows if row.paper}
    plan = Plan(table.path.stem, root, [*bases.values()], cells, papers, len(table.orders))
    _check_doubles(plan.jobs, table.path)
    return plan


def check_plan(plan: Plan) -> None:
    """Refuse runs that would end in their first seconds: each row's config is read with its options, once.

    Raises:
        InputError: see ``options.read_config``, ``Scenario`` and ``evaluation.compare.paper_row``; or a row's name is
            not the one in its results, or a row of joint training has a base.
    """
    from ..options import read_config  # it loads PyTorch and mmseg
    for place in plan.papers.values():
        paper_row(place)
    configs: dict[tuple[str, str], Config] = {}
    for job in plan.cells:
        own = {key: value for key, value in job.options.items() if not key.startswith('scenario.')}
        key = job.config, str(own)
        try:
            if key not in configs:
                configs[key] = read_config(job.config, job.options)
            changed = {name.partition('.')[2]: value for name, value in job.options.items() if name not in own}
            scenario = Scenario(**{**configs[key].scenario, **changed})
        except InputError as error:
            raise InputError(f'{job.title}: {error.sentence}') from error
        if configs[key].get('memory') and not job.row.endswith('-M'):
            raise InputError(f'the row {job.row} has an exemplar memory, so that its results are called {job.row}-M; '
                             'give it that name')
        if job.base and scenario.joint:
            raise InputError(f'the row {job.row} learns all classes in one task and shares it with no other; remove '
                             'its base')


def _options(place: Place, common: Mapping[str, Any], orders: Mapping[str | None, Any]) -> dict[str, Any]:
    """Config values of a cell: the row's over the table's, then those of its place."""
    options = {**common, **place.row.options, 'method': place.row.name, 'scenario.name': place.scenario}
    if place.setting:
        options['scenario.setting'] = place.setting
    if place.order:
        options['scenario.order'] = orders[place.order]
    return options


def _parts(place: Place, scenario: str) -> list[str]:
    """Scenario, setting and class order of a place, as far as the table says them."""
    order = f'order {place.order}' if place.order else None
    return [part for part in (scenario, place.setting, order) if part]


def _title(name: str, place: Place, scenario: str) -> str:
    """Name a run for people."""
    return f'{name} {", ".join([*_parts(place, scenario), f"seed {place.seed}"])}'


def _folder(root: Path, name: str, place: Place, scenario: str) -> Path:
    """Where a run writes."""
    return root / as_folder(name) / as_folder(' '.join(_parts(place, scenario))) / f'seed_{place.seed}'


def as_folder(name: str) -> str:
    """A name as one part of a path."""
    return re.sub(r'[^\w.+-]+', '_', name).strip('_')


def _check_doubles(jobs: Sequence[Job], path: str | Path) -> None:
    """Refuse two runs in one folder."""
    first: dict[Path, Job] = {}
    for job in jobs:
        other = first.setdefault(job.folder, job)
        if other is not job:
            both = job.title if other.title == job.title else f'{other.title}, as {job.title},'
            raise InputError(f'{path}: the cell {both} is there twice; give each row a name of its own, and each '
                             'scenario and seed once')
