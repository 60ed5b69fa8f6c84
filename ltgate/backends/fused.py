"""Triton kernels of the GPU path: a chunk of time steps in registers.

Loads do not depend on the state, so the compiler issues those of the next STAGES - 1 steps ahead.
Launch both with ``enable_fp_fusion=False``: multiplications and additions must round separately, in
the order of :func:`ltgate.neurons.step`. Everything is laid out channels last.
"""

import triton
import triton.language as tl


@triton.jit
def scan(
    current, drive, coefficients, response, threshold, gate,
    membrane, counts, crossings, weighted, spikes,
    steps, span, size, positions, channels,
    FIRST: tl.constexpr, TRACES: tl.constexpr, COMPARTMENTS: tl.constexpr, BLEND: tl.constexpr,
    SUBTRACT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Run ROWS positions x COLUMNS channels of one image through ``steps`` steps.

    ``current`` [steps, B, positions, COMPARTMENTS, channels]; of the FIRST layer only one step,
    which ``drive`` [steps] multiplies, and ``weighted`` [B, positions, TRACES, channels] collects
    spikes times ``response`` [TRACES, span]. ``spikes`` [steps, B, positions, channels]; ``size``
    is the number of values in one of its steps. State is laid out as one step of current or spikes.
    """
    tiles = tl.cdiv(positions, ROWS)
    image = tl.program_id(0) // tiles
    row = (tl.program_id(0) % tiles) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (row < positions) & (channel < channels)
    site = image * positions + row
    neuron = site * channels + channel
    fast = site * COMPARTMENTS * channels + channel
    slow = fast + channels

    decay0, gain0 = tl.load(coefficients), tl.load(coefficients + COMPARTMENTS)
    theta0 = tl.load(threshold + channel, mask=channel < channels, other=1.0)
    v0 = tl.load(membrane + fast, mask=inside, other=0.0)
    count = tl.zeros([ROWS, COLUMNS], tl.int32)
    count0 = tl.zeros([ROWS, COLUMNS], tl.int32)
    if COMPARTMENTS == 2:
        decay1, gain1 = tl.load(coefficients + 1), tl.load(coefficients + 3)
        v1 = tl.load(membrane + slow, mask=inside, other=0.0)
        count1 = tl.zeros([ROWS, COLUMNS], tl.int32)
        if BLEND:
            theta1 = theta0
            gamma = tl.load(gate + channel, mask=channel < channels, other=0.0)
            rest = 1.0 - gamma
        else:
            theta1 = tl.load(threshold + channels + channel, mask=channel < channels, other=1.0)
    if FIRST:
        fixed0 = tl.load(current + fast, mask=inside, other=0.0)
        if COMPARTMENTS == 2:
            fixed1 = tl.load(current + slow, mask=inside, other=0.0)
    if TRACES > 0:
        sum0 = tl.zeros([ROWS, COLUMNS], tl.float32)
    if TRACES == 2:
        sum1 = tl.zeros([ROWS, COLUMNS], tl.float32)

    for t in tl.range(0, steps, num_stages=STAGES):
        if FIRST:
            now = tl.load(drive + t)
            current0 = now * fixed0
            if COMPARTMENTS == 2:
                current1 = now * fixed1
        else:
            current0 = tl.load(current + fast, mask=inside, other=0.0).to(tl.float32)
            if COMPARTMENTS == 2:
                current1 = tl.load(current + slow, mask=inside, other=0.0).to(tl.float32)
            current += size * COMPARTMENTS
        v0 = v0 * decay0
        v0 = v0 + current0 * gain0
        crossed0 = (v0 >= theta0) & inside
        spike = crossed0
        count0 += crossed0.to(tl.int32)
        if COMPARTMENTS == 2:
            v1 = v1 * decay1
            v1 = v1 + current1 * gain1
            crossed1 = (v1 >= theta1) & inside
            count1 += crossed1.to(tl.int32)
            if BLEND:
                blended = gamma * v0
                blended = blended + rest * v1
                spike = (blended >= theta0) & inside
                crossed0, crossed1 = spike, spike
            else:
                spike = crossed0 | crossed1
            v1 = tl.where(crossed1, v1 - theta1 if SUBTRACT else 0.0, v1)
        v0 = tl.where(crossed0, v0 - theta0 if SUBTRACT else 0.0, v0)
        count += spike.to(tl.int32)
        if TRACES > 0:
            sum0 += tl.where(spike, tl.load(response + t), 0.0)
        if TRACES == 2:
            sum1 += tl.where(spike, tl.load(response + span + t), 0.0)
        tl.store(spikes + neuron, spike.to(spikes.dtype.element_ty), mask=inside)
        spikes += size

    tl.store(membrane + fast, v0, mask=inside)
    tl.store(counts + neuron, tl.load(counts + neuron, mask=inside) + count, mask=inside)
    sums = crossings + image * COMPARTMENTS * channels + channel
    tl.atomic_add(sums, tl.sum(count0, 0)[None, :], mask=channel < channels)
    if COMPARTMENTS == 2:
        tl.store(membrane + slow, v1, mask=inside)
        tl.atomic_add(sums + channels, tl.sum(count1, 0)[None, :], mask=channel < channels)
    if TRACES > 0:
        at = weighted + site * TRACES * channels + channel
        tl.store(at, tl.load(at, mask=inside) + sum0, mask=inside)
        if TRACES == 2:
            at += channels
            tl.store(at, tl.load(at, mask=inside) + sum1, mask=inside)


@triton.jit
def trace(
    inputs, decays, state, traces, steps, size, channels,
    TRACES: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """x_c[t] = decays_c x_c[t-1] + inputs[t]: ``inputs`` [steps, size / channels, channels] to
    ``traces`` [steps, size / channels, TRACES, channels], from and to ``state``, one step of it."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < size
    fast = n // channels * TRACES * channels + n % channels
    slow = fast + channels
    decay0 = tl.load(decays)
    x0 = tl.load(state + fast, mask=inside, other=0.0)
    if TRACES == 2:
        decay1 = tl.load(decays + 1)
        x1 = tl.load(state + slow, mask=inside, other=0.0)
    for _ in tl.range(0, steps, num_stages=STAGES):
        value = tl.load(inputs + n, mask=inside, other=0.0).to(tl.float32)
        x0 = x0 * decay0
        x0 = x0 + value
        tl.store(traces + fast, x0, mask=inside)
        if TRACES == 2:
            x1 = x1 * decay1
            x1 = x1 + value
            tl.store(traces + slow, x1, mask=inside)
        inputs += size
        traces += size * TRACES
    tl.store(state + fast, x0, mask=inside)
    if TRACES == 2:
        tl.store(state + slow, x1, mask=inside)
