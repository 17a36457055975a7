from functools import partial

import pytest
import torch

from gibbsian.sampling.bridge import Bridge, Particles, ProposalEnergy
from gibbsian.sampling.kernels import StepRule, find_step, kernel_named, mala, mean_acceptance, regen
from gibbsian.sampling.schedule import coefficients
from gibbsian.testing.sampling import check_kernel
from gibbsian.testing.toy_proposals import Bent, BentTarget

STEPS = {"mala": 1.0, "hmc": 0.4, "rwm": 1.0, "ula": 0.05}


def repeated(kernel, step: float, n_moves: int = 50):
    def moves(particles: Particles, bridge: Bridge, t: float, generator: torch.Generator) -> Particles:
        for _ in range(n_moves):
            particles, _ = kernel(particles, coefficients(t), bridge, step, generator)
        return particles

    return moves


@pytest.mark.parametrize("name", list(STEPS))
def test_level_is_invariant(name):
    check_kernel(repeated(kernel_named(name), STEPS[name]), n=10_000)


@pytest.mark.parametrize(("form", "step"), [("mix", 0.7), ("subset", 0.4), ("mix", 1.0)])
def test_regeneration_leaves_a_level_invariant(form, step):
    check_kernel(repeated(partial(regen, proposal=Bent(), form=form), step), n=10_000)


def test_kernels_take_turns():
    def both(particles, bridge, t, generator):
        for _ in range(15):
            particles, _ = mala(particles, coefficients(t), bridge, 1.0, generator)
            particles, _ = regen(particles, coefficients(t), bridge, 0.8, generator, proposal=Bent())
        return particles

    check_kernel(both, n=10_000)


def test_a_wrong_kernel_is_found_out():
    def forgetful(particles, at, bridge, step, generator):
        proposed = bridge.evaluate(
            particles.x + step * torch.randn(particles.x.shape, generator=generator), gradients=False
        )
        return particles.where(proposed.energy(at) < particles.energy(at) + 0.5, proposed), None

    with pytest.raises(AssertionError, match=r"E\[x2"):
        check_kernel(repeated(forgetful, 0.5), n=10_000)


def toy(n: int = 200, seed: int = 0) -> tuple[Particles, Bridge]:
    bridge = Bridge(ProposalEnergy(Bent()), BentTarget())
    return bridge.with_log_q(*Bent().sample(n, torch.Generator().manual_seed(seed))), bridge


@pytest.mark.parametrize("name", list(STEPS))
def test_one_broken_particle_does_not_touch_the_others(name):
    class Sometimes(BentTarget):
        bad = False

        def u_and_grad(self, x):
            u, grad = super().u_and_grad(x)
            if self.bad:
                grad[3] = torch.nan
            return u, grad

    target = Sometimes()
    bridge = Bridge(ProposalEnergy(Bent()), target)
    start, _ = toy()
    kernel, at = kernel_named(name), coefficients(0.5)
    sound, _ = kernel(start, at, bridge, 0.3, torch.Generator().manual_seed(1))
    target.bad = True
    broken, _ = kernel(start, at, bridge, 0.3, torch.Generator().manual_seed(1))
    others = torch.arange(200) != 3
    assert torch.equal(sound.x[others], broken.x[others])
    assert torch.isfinite(broken.x).all()


@pytest.mark.parametrize("name", ["mala", "hmc", "rwm", "ula"])
def test_particles_without_density_stay_and_do_not_count(name):
    start, bridge = toy()
    dead = torch.arange(200) < 50
    start = Particles(start.x, start.u0, torch.where(dead, torch.inf, start.u1))
    kernel = kernel_named(name)
    moved, info = kernel(start, coefficients(0.5), bridge, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(moved.x[dead], start.x[dead])
    assert torch.isnan(info.acceptance[dead]).all()
    assert mean_acceptance(info) > 0.5


def test_step_is_found_and_followed():
    start, bridge = toy(500)
    generator = torch.Generator().manual_seed(0)
    rule = StepRule(0.574)
    step = find_step(mala, start, coefficients(0.5), bridge, rule, 1e-4, generator)
    acceptance = mean_acceptance(mala(start, coefficients(0.5), bridge, step, generator)[1])
    assert 0.3 < acceptance < 0.8
    assert rule.next(step, 0.1) < step < rule.next(step, 0.9)
    assert rule.next(step, 0.58) == step
    assert rule.next(step, float("nan")) == step


def test_gradients_are_not_computed_twice():
    start, bridge = toy(100)
    generator = torch.Generator().manual_seed(0)
    moved, _ = mala(start, coefficients(0.5), bridge, 0.1, generator)
    calls = bridge.calls
    mala(moved, coefficients(0.6), bridge, 0.1, generator)
    assert bridge.calls == calls + 100
