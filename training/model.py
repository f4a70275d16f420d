# SPDX-License-Identifier: LGPL-2.1-or-later
"""The glm4v architecture at its smallest, for training: the same maths as transformers' Glm4vForConditionalGeneration.

Leaner than the class it will be loaded into: one tensor of padded patches and one of padded token ids instead of ragged
lists, the two temporal slices of the patch embedding (equal for still images) folded into one, and the position tables of
the few grids that occur worked out once. export.py writes the weights under the official names.
"""
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    vocabulary: int = 1152
    hidden: int = 256               # text width, and the width of a vision block's MLP (out_hidden_size)
    layers: int = 5
    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 128
    ffn: int = 512
    sections: tuple = (8, 12, 12)   # rotary frequencies by the t, h and w position
    vision_hidden: int = 256
    vision_layers: int = 6
    vision_heads: int = 4
    merger: int = 512               # vision intermediate_size: the merger's MLP
    patch: int = 14
    table: int = 16                 # side of the position table
    eps: float = 1e-5
    theta: float = 10000.0
    max_patches: int = 256


def cubic(u, a=-0.75):
    """Weights of the four taps at u in [0, 1)."""
    near = lambda x: ((a + 2) * x - (a + 3)) * x * x + 1                       # noqa: E731
    far = lambda x: ((a * x - 5 * a) * x + 8 * a) * x - 4 * a                  # noqa: E731
    return [far(u + 1), near(u), near(1 - u), far(2 - u)]


def axis_weights(side, count):
    """[count, side]: one axis of the bicubic read of the position table, borders clamped."""
    out = np.zeros((count, side))
    for i in range(count):
        s = (i + 0.5) * side / count - 0.5
        first = math.floor(s)
        for tap, weight in enumerate(cubic(s - first)):
            out[i, min(side - 1, max(0, first - 1 + tap))] += weight
    return out


def merge_order(rows, columns):
    """(y, x) of the patches in 2x2 blocks; rows and columns count merged tokens."""
    y, x = np.meshgrid(np.arange(2 * rows), np.arange(2 * columns), indexing="ij")
    block = lambda v: v.reshape(rows, 2, columns, 2).transpose(0, 2, 1, 3).reshape(-1)   # noqa: E731
    return block(y), block(x)


def grid_tables(config, grids):
    """Per grid, padded to max_patches: reads of the position table [G, P, S*S], rotary angles [G, P, D/2], mask [G, P]."""
    quarter = config.vision_hidden // config.vision_heads // 4
    inverse = config.theta ** (-np.arange(quarter) / quarter)
    read = np.zeros((len(grids), config.max_patches, config.table ** 2), np.float32)
    angle = np.zeros((len(grids), config.max_patches, 2 * quarter), np.float32)
    used = np.zeros((len(grids), config.max_patches), bool)
    for g, (rows, columns) in enumerate(grids):
        y, x = merge_order(rows, columns)
        wy, wx = axis_weights(config.table, 2 * rows)[y], axis_weights(config.table, 2 * columns)[x]
        n = len(y)
        read[g, :n] = (wy[:, :, None] * wx[:, None, :]).reshape(n, -1)
        angle[g, :n] = np.concatenate([y[:, None] * inverse, x[:, None] * inverse], 1)
        used[g, :n] = True
    return read, angle, used


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        wide = x.float()
        return (self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps))).to(x.dtype)


class VisionBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c.vision_hidden
        self.heads = c.vision_heads
        self.norm1, self.norm2 = RMSNorm(d, c.eps), RMSNorm(d, c.eps)
        self.qkv, self.proj = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate_proj, self.up_proj = nn.Linear(d, c.hidden, bias=False), nn.Linear(d, c.hidden, bias=False)
        self.down_proj = nn.Linear(c.hidden, d, bias=False)

    def forward(self, x, cos, sin, mask):
        b, p, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, p, 3, self.heads, -1).permute(2, 0, 3, 1, 4)

        def rotate(t):
            first, second = t.float().chunk(2, -1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(t.dtype)
        a = F.scaled_dot_product_attention(rotate(q), rotate(k), v, attn_mask=mask)
        x = x + self.proj(a.transpose(1, 2).reshape(b, p, d))
        h = self.norm2(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Vision(nn.Module):
    def __init__(self, c, grids):
        super().__init__()
        d = c.vision_hidden
        self.c = c
        self.patch = nn.Linear(3 * c.patch ** 2, d)
        self.post_conv_layernorm = RMSNorm(d, c.eps)
        self.table = nn.Parameter(torch.zeros(c.table ** 2, d))
        self.blocks = nn.ModuleList(VisionBlock(c) for _ in range(c.vision_layers))
        self.post_layernorm = RMSNorm(d, c.eps)
        self.downsample = nn.Linear(4 * d, c.hidden)         # rows of a block, one after the other
        self.proj = nn.Linear(c.hidden, c.hidden, bias=False)
        self.post_projection_norm = nn.LayerNorm(c.hidden)
        self.gate_proj = nn.Linear(c.hidden, c.merger, bias=False)
        self.up_proj = nn.Linear(c.hidden, c.merger, bias=False)
        self.down_proj = nn.Linear(c.merger, c.hidden, bias=False)
        read, angle, used = grid_tables(c, grids)
        self.register_buffer("read", torch.from_numpy(read), persistent=False)
        self.register_buffer("cos", torch.from_numpy(np.cos(angle)), persistent=False)
        self.register_buffer("sin", torch.from_numpy(np.sin(angle)), persistent=False)
        self.register_buffer("used", torch.from_numpy(used), persistent=False)

    def forward(self, patches, grid):
        """patches [B, P, 3*14*14] normalized, grid [B] -> [B, M, D]."""
        x = self.post_conv_layernorm(self.patch(patches))
        x = x + (self.read @ self.table)[grid].to(x.dtype)
        cos, sin = self.cos[grid][:, None], self.sin[grid][:, None]
        mask = self.used[grid][:, None, None].expand(-1, 1, x.shape[1], -1)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        x = self.post_layernorm(x)
        b, p, d = x.shape
        y = F.gelu(self.post_projection_norm(self.proj(self.downsample(x.reshape(b, p // 4, 4 * d)))))
        return self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


class TextLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        d, q, k = c.hidden, c.heads * c.head_dim, c.kv_heads * c.head_dim
        self.input_layernorm, self.post_self_attn_layernorm = RMSNorm(d, c.eps), RMSNorm(d, c.eps)
        self.post_attention_layernorm, self.post_mlp_layernorm = RMSNorm(d, c.eps), RMSNorm(d, c.eps)
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(d, q), nn.Linear(d, k), nn.Linear(d, k)
        self.o_proj = nn.Linear(q, d, bias=False)
        self.gate_up_proj = nn.Linear(d, 2 * c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, d, bias=False)

    def forward(self, x, cos, sin, mask):
        c, (b, t, _) = self.c, x.shape
        h = self.input_layernorm(x)
        q = self.q_proj(h).view(b, t, c.heads, c.head_dim).transpose(1, 2)
        k = self.k_proj(h).view(b, t, c.kv_heads, c.head_dim).transpose(1, 2)
        v = self.v_proj(h).view(b, t, c.kv_heads, c.head_dim).transpose(1, 2)

        def rotate(z):
            turn, keep = z.split([2 * cos.shape[-1], c.head_dim - 2 * cos.shape[-1]], -1)
            even, odd = turn.float().unflatten(-1, (-1, 2)).unbind(-1)
            turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)
            return torch.cat([turned.to(z.dtype), keep], -1)
        q, k = rotate(q), rotate(k)
        k, v = k.expand(-1, c.heads, -1, -1), v.expand(-1, c.heads, -1, -1)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.post_self_attn_layernorm(self.o_proj(a.transpose(1, 2).reshape(b, t, -1)))
        gate, up = self.gate_up_proj(self.post_attention_layernorm(x)).chunk(2, -1)
        return x + self.post_mlp_layernorm(self.down_proj(up * F.silu(gate)))


class Model(nn.Module):
    """kinds: classes of the training-only head that reads kind and box from every image token."""

    def __init__(self, c, grids, kinds=0):
        super().__init__()
        assert c.kv_heads == 1
        self.c = c
        self.visual = Vision(c, grids)
        self.embed = nn.Embedding(c.vocabulary, c.hidden)
        self.layers = nn.ModuleList(TextLayer(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)
        self.helper = nn.Linear(c.hidden, kinds + 5) if kinds else None
        frequency = c.theta ** (-torch.arange(sum(c.sections)) / sum(c.sections))
        axis = torch.repeat_interleave(torch.arange(3), torch.tensor(c.sections))
        self.register_buffer("frequency", frequency, persistent=False)
        self.register_buffer("axis", axis, persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 if "embed" in name or "table" in name else p.shape[1] ** -0.5)
            elif "bias" in name:
                nn.init.zeros_(p)
        for block in self.visual.blocks:
            block.proj.weight.data *= 0.4
            block.down_proj.weight.data *= 0.4
        for layer in self.layers:                           # the sandwich norms scale what a branch adds
            nn.init.constant_(layer.post_self_attn_layernorm.weight, 0.3)
            nn.init.constant_(layer.post_mlp_layernorm.weight, 0.3)

    def forward(self, patches, grid, ids, slot, position, branch):
        """ids [B, T]; slot [B, T] the image row of a token, or -1; position [B, T, 3]; branch [B, T]: 0 shared by all
        branches, 1.. a branch that sees itself and what is shared, -1 padding. -> hidden states [B, T, D], image rows."""
        image = self.visual(patches, grid)
        rows = torch.gather(image, 1, slot.clamp(min=0)[..., None].expand(-1, -1, image.shape[-1]))
        x = torch.where((slot >= 0)[..., None], rows, self.embed(ids).to(image.dtype))
        angle = position.float()[..., self.axis] * self.frequency
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        t = ids.shape[1]
        past = torch.ones(t, t, dtype=torch.bool, device=ids.device).tril()
        of, seen = branch[:, :, None], branch[:, None, :]
        mask = (past & ((seen == 0) | (seen == of)))[:, None]
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.norm(x), image

    def logits(self, hidden):
        return F.linear(hidden, self.embed.weight.to(hidden.dtype))
