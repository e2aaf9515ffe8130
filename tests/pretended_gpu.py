"""Run code as on a GPU where there is none: some tensors count as a GPU's, and to mix them with others is an error."""
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

GPU = torch.device('cuda', 0)
# They may be given tensors of both kinds.
CROSSING = {Tensor.copy_, Tensor.data.__set__, Tensor.grad.__set__, Tensor.__deepcopy__, Tensor.__repr__, torch.save,
            torch._has_compatible_shallow_copy_type}
INDEXING = {Tensor.__getitem__, Tensor.__setitem__}
# Of storages, by their addresses. What a cache keeps outlives the mode.
MARKS: dict[int, StorageWeakRef] = {}
MOST_MARKS = 50_000  # then those of storages that are gone are dropped
PASSES_BACK = {Tensor.backward, torch.autograd.grad, torch.autograd.backward}


class PretendedGpu(TorchFunctionMode):
    """While it is entered, ``.to('cuda')`` gives tensors that count as a GPU's though they are computed on the CPU.

    Storages are marked, so that views, parameters and what shares them count alike. What autograd computes by itself is
    not watched; its gradients count as what their parameters are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        """Number of operations on the pretended GPU so far."""

    def is_marked(self, tensor: Tensor) -> bool:
        """Whether a tensor counts as a GPU's."""
        if tensor.layout is not torch.strided:
            return False
        mark = MARKS.get(tensor.untyped_storage()._cdata)
        return mark is not None and not mark.expired()

    def _mark(self, result: Any) -> Any:
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            # The reference keeps the address from being given to another storage.
            MARKS[storage._cdata] = StorageWeakRef(storage)
        if len(MARKS) > MOST_MARKS:
            for address in [address for address, mark in MARKS.items() if mark.expired()]:
                del MARKS[address]
        return result

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__ and self.is_marked(args[0]):
            return GPU
        if func in (Tensor.is_cuda.__get__, Tensor.is_cpu.__get__):
            return self.is_marked(args[0]) == (func == Tensor.is_cuda.__get__)
        if func is Tensor.to:
            return self._to(args[0], *args[1:], **kwargs)
        if func in (Tensor.cpu, Tensor.cuda):
            return self._to(args[0], torch.device('cpu') if func is Tensor.cpu else GPU)
        given = [*_tensors((args, kwargs))]
        marked = [self.is_marked(tensor) for tensor in given]
        if func in PASSES_BACK:
            return self._mark(func(*args, **kwargs)) if any(marked) else func(*args, **kwargs)
        if func in (Tensor.numpy, Tensor.__array__) and any(marked):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func not in CROSSING:
            self._check(func, args, given, marked)
        on_gpu = marked[0] if func in CROSSING and marked else any(marked)
        if kwargs.get('device') is not None:
            on_gpu, kwargs['device'] = torch.device(kwargs['device']).type == 'cuda', 'cpu'
        result = func(*args, **kwargs)
        self.operations += on_gpu
        if func == Tensor.data.__set__ and self.is_marked(args[1]):
            self._mark(args[0])
        return self._mark(result) if on_gpu else result

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``tensor.to`` with a device, a tensor, or a type alone."""
        before = after = self.is_marked(tensor)
        plain = []
        for value in (*args, kwargs.pop('device', None)):
            if isinstance(value, str | torch.device):
                after = torch.device(value).type == 'cuda'
            elif isinstance(value, Tensor):
                after = self.is_marked(value)
                plain.append(value.dtype)
            elif value is not None:
                plain.append(value)
        if before != after:
            kwargs['copy'] = True
        if not plain and not kwargs:
            return tensor
        if not any(isinstance(value, torch.dtype) for value in plain) and 'dtype' not in kwargs:
            plain.insert(0, tensor.dtype)
        result = tensor.to(*plain, **kwargs)
        self.operations += after
        return self._mark(result) if after else result

    def _check(self, func: Callable, args: tuple, given: list[Tensor], marked: list[bool]) -> None:
        """Raise what a GPU raises for tensors of both devices; only numbers on the CPU are allowed beside a GPU's."""
        if not any(marked):
            return
        # A GPU's tensors take indices that are on the CPU.
        free = {id(tensor) for tensor in _tensors(args[1])} if func in INDEXING and self.is_marked(args[0]) else set()
        watched = [pair for pair in zip(given, marked, strict=True) if id(pair[0]) not in free]
        for tensor, mark in watched:
            if not mark and tensor.dim() > 0:
                raise RuntimeError(f'Expected all tensors to be on the same device, but found at least two devices, '
                                   f'cuda:0 and cpu, in {getattr(func, "__name__", func)}!')


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor) and value.layout is torch.strided)
