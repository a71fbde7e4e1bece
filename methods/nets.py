"""The PyTorch modules of the learned forecasters; importing this module imports torch."""

from __future__ import annotations

import torch
from torch import nn

from weightcast.methods.encoder import encoder, mapped


class LstmNet(nn.Module):
    """LSTM over (c, n + 1) values, linear head on the last state: (c, m)."""

    def __init__(self, hidden: int, m: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, m)
        # A state that is kept at first learns from early values sooner (Jozefowicz et al. 2015).
        bias = dict(self.recurrent.named_parameters())["bias_hh_l0"]
        nn.init.ones_(bias.detach()[hidden : 2 * hidden])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.recurrent(x.unsqueeze(-1))
        out: torch.Tensor = self.head(states[:, -1])
        return out


class TransformerNet(nn.Module):
    """Pre-norm encoder over (c, n + 1) values with learned positions: (c, m)."""

    def __init__(self, n: int, m: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.position = nn.Parameter(0.02 * torch.randn(n + 1, width))
        self.encoder = encoder(width, layers, heads, last_only=True)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, m))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (width, 1, 1) · (1, n + 1, c) + (width, n + 1, 1)
        start = self.position.T + self.embed.bias[:, None]
        tokens = self.embed.weight[:, :, None] * x.T + start[:, :, None]
        out: torch.Tensor = self.head(self.encoder(tokens)[:, -1].T)
        return out


class PatchNet(nn.Module):
    """Pre-norm encoder over patches of (c, n + 1) values, linear head on all tokens: (c, m).

    The last value is repeated ``stride`` times at the end, so that the newest values are seen in
    two patches; there are ⌊(n + 1 − patch)/stride⌋ + 2 of them.
    """

    def __init__(
        self, n: int, m: int, patch: int, stride: int, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, stride
        self.patches = (n + 1 - patch) // stride + 2
        self.embed = nn.Linear(patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.patches, width))
        self.encoder = encoder(width, layers, heads, last_only=False)
        self.head = nn.Linear(self.patches * width, m)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = torch.cat([x, x[:, -1:].expand(-1, self.stride)], dim=1).T
        patches = padded.unfold(0, self.patch, self.stride)  # (patches, c, patch)
        start = self.position.T + self.embed.bias[:, None]
        tokens = mapped(self.embed.weight, patches.permute(2, 0, 1)) + start[:, :, None]
        out: torch.Tensor = self.head(self.encoder(tokens).permute(2, 1, 0).flatten(1))
        return out


class FlowNet(nn.Module):
    """A velocity field v(z, t | context), and its path: (c, n + 1) values to (c, m) places.

    z is where a coordinate is, from 0 at the origin, and t the share of the way to the last
    horizon; velocities are per unit of horizon.
    """

    times: torch.Tensor

    def __init__(self, n: int, times: torch.Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("times", times)  # (m + 1,), from 0
        self.body = nn.Sequential(
            nn.Linear(n + 3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 1),
        )  # fmt: skip

    def velocity(self, x: torch.Tensor, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return v (c, 1) at places z (c, 1) and times t (c, 1) of contexts x (c, n + 1)."""
        out: torch.Tensor = self.body(torch.cat([x, z, t / self.times[-1]], dim=1))
        return out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = x.new_zeros(len(x), 1)
        path = []
        for now, later in zip(self.times[:-1], self.times[1:], strict=True):
            z = z + (later - now) * self.velocity(x, z, now.expand(len(x), 1))
            path.append(z)
        return torch.cat(path, dim=1)


class IntrospectionNet(nn.Module):
    """Four values, 40 hidden units with ReLU, one value: 241 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 40)
        self.head = nn.Linear(40, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.hidden(x)))
        return out


class WnnNet(nn.Module):
    """Two streams, of five scaled values and of their four differences, to one delta: (c, 1).

    9,425 parameters.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.values = _WnnStream(5, slope)
        self.differences = _WnnStream(4, slope)
        self.head = nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        streams = [self.values(x), self.differences(x.diff(dim=1))]
        out: torch.Tensor = torch.tanh(self.head(torch.cat(streams, dim=1)))
        return out


class _WnnStream(nn.Module):
    """k values to 32: an activation u = a(s) + b(s)·exp(c(s)·h) whose shape the values choose."""

    def __init__(self, k: int, slope: float) -> None:
        super().__init__()
        self.lift = nn.Linear(k, 64)
        self.squeeze = nn.Linear(64, 8)
        self.a = nn.Linear(8, 64)
        self.b = nn.Linear(8, 64)
        self.c = nn.Linear(8, 64)
        self.out = nn.Linear(64, 32)
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.lift(x)
        s = torch.relu(self.squeeze(h))
        u = self.a(s) + self.b(s) * torch.exp(self.c(s) * h)
        return nn.functional.leaky_relu(self.out(u), self.slope)


class NinoMlpNet(nn.Module):
    """Five scaled states and a kind to 40 deltas: (c, 5), (c,) → (c, 40), 57,384 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(5, 128)
        self.kind = nn.Embedding(15, 128)
        self.body = nn.Sequential(
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Linear(128, 40),
        )
        # Scaled weights hardly move: a net that starts near a delta of zero has less to unlearn.
        for name, parameter in self.named_parameters():
            nn.init.zeros_(parameter) if "bias" in name else nn.init.normal_(parameter, std=0.02)

    def forward(self, x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(self.lift(x) + self.kind(kind))
        return out
