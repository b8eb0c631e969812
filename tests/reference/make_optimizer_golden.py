"""Five steps of PyTorch's optimisers on sum((x - [3, -1])^2 * [1, 10]) from [1, 1].

Prints the numbers that `src/train/optimizer.rs` is compared with: AdamW, Adam, SGD, SGD with Nesterov.
"""

import torch

SETTINGS = [
    lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01),
    lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
]

for make in SETTINGS:
    x = torch.tensor([1.0, 1.0], requires_grad=True)
    optimizer = make([x])
    for _ in range(5):
        optimizer.zero_grad()
        ((x - torch.tensor([3.0, -1.0])) ** 2 * torch.tensor([1.0, 10.0])).sum().backward()
        optimizer.step()
    print(", ".join(repr(v) for v in x.tolist()))
