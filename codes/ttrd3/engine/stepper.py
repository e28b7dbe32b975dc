"""One optimiser step: batches forward and backward, the gradient clipped, Adam, and the averaged weights."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.engine import acceleration, build, checkpoint
from ttrd3.engine.distill import Teacher
from ttrd3.engine.distributed import World
from ttrd3.engine.ema import EMA
from ttrd3.engine.learning_rate import learning_rate
from ttrd3.engine.loading import Batch, image
from ttrd3.engine.options import Options
from ttrd3.engine.precision import Precision
from ttrd3.engine.self_ensemble import residual_elsewhere
from ttrd3.errors import ConfigError
from ttrd3.losses.base import Critic, Step, teaches_residual, turns, weight_at


@dataclass(frozen=True)
class Outcome:
    """What a step reports: values to log, equal in all processes, and whether the weights were updated.

    Attributes:
        overflow: The gradient left the range of float16; the scale has been lowered, which is no fault of the data.
    """

    values: dict[str, float]
    updated: bool
    overflow: bool = False


class Stepper:
    """The model with everything that changes it.

    Attributes:
        whole: Whether model, average and optimiser belong to one step; false only while they are updated.
    """

    def __init__(self, options: Options, device: torch.device, world: World):
        """Build from options.

        Raises:
            UserError: An option, weights file or device that cannot be used.
        """
        self.options, self.device, self.world = options, device, world
        train = options.train
        self.precision = Precision(train.precision, device)
        torch.manual_seed(options.seed)
        self.model = build.build_model(options.model, options.diffusion).to(device)
        if train.only is not None:
            build.freeze_all_but(self.model, train.only)
        if train.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = EMA(self.model, train.ema_decay)
        if train.gradient_checkpointing:
            acceleration.recompute_in_backward(self.model)
        if train.compile:
            acceleration.compile_networks(self.model, device)
        self.process = build.build_process(options.diffusion).to(device)
        self.objective = OBJECTIVES[options.diffusion.objective]
        self.teacher = None if options.distill is None else Teacher(options.distill, options.diffusion, device)
        self.losses = build.build_losses(options, device)
        self.critics: list[Critic] = [loss for loss in self.losses if hasattr(loss, "critic_loss")]
        self.adam = torch.optim.Adam(self.learning(), train.learning_rate, tuple(train.betas), fused=True)
        self.network: nn.Module = self.model  # what is called to train: with several processes, DDP around the model
        self.whole = True

    def learning(self) -> list[nn.Parameter]:
        """The model's parameters that learn (`train.only`)."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def rehearse(self, batch: Batch) -> None:
        """Forward and backward without any update, with the losses of each time; then the processes are joined.

        Raises:
            UserError: What cannot work, before anything is trained.
        """
        for loss in self.critics:
            loss.critic.eval()  # nothing is updated: in training each look improves the spectral norm's estimate
        unused = False
        for number in turns(loss.weight for loss in self.losses):
            if number < self.options.train.steps:
                total = self._weigh(self._predict(batch, number), number)[1]
                only = self.options.train.only
                if only is not None and not total.requires_grad:
                    raise ConfigError(
                        f"train.only: found {', '.join(only)}, which no loss that counts at "
                        f"step {number} depends on. Name other parts, or give a loss that looks at them."
                    )
                total.backward()
                unused |= any(parameter.grad is None for parameter in self.learning())
                self.adam.zero_grad(set_to_none=True)
        for loss in self.critics:
            loss.critic.train()
        if self.world.size > 1:
            self.network = DistributedDataParallel(
                self.model, forward_sync_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=unused
            )

    def step(self, number: int, batches: Sequence[Batch]) -> Outcome:
        """Optimiser step `number` = 0, 1, ... over the passes of `batches`.

        A gradient that is not finite changes nothing but the scale of float16.
        """
        train = self.options.train
        rate = learning_rate(number, train)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.zero_grad(set_to_none=True)
        sums = self._backward(number, batches)
        self.precision.scaler.unscale_(self.adam)
        norm = torch.nn.utils.clip_grad_norm_(self.learning(), train.clip_norm or math.inf)
        *means, norm = torch.stack([*sums.values(), norm]).tolist()  # one wait for the device a step
        means = self.world.mean(means)  # the gradient needs none: DDP has averaged it
        sound = all(map(math.isfinite, means))
        finite = sound and math.isfinite(norm)
        self._update(number, finite)
        values = dict(zip(sums, means, strict=True))
        values |= {"train/gradient_norm": norm, "train/learning_rate": rate}
        overflow = self.precision.name == "float16" and sound and not finite
        return Outcome(values, finite, overflow and self.precision.scaler.get_scale() >= 1)

    def _backward(self, step: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Add up the gradients of all passes; returns the mean of each loss term."""
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, start=1):
            with contextlib.ExitStack() as stack:
                if number < len(batches) and isinstance(self.network, DistributedDataParallel):
                    stack.enter_context(self.network.no_sync())  # the last pass exchanges the sum of all
                stack.enter_context(self.precision.of_products())
                predicted = self._predict(batch, step)
                terms, total = self._weigh(predicted, step)
                self.precision.scaler.scale(total / len(batches)).backward()
                terms |= self._teach_critics(predicted, step, len(batches))
            for name, value in (terms | {"total": total}).items():
                sums[f"loss/{name}"] = sums.get(f"loss/{name}", 0) + value.detach() / len(batches)
        return sums

    def _teach_critics(self, predicted: Step, step: int, passes: int) -> dict[str, Tensor]:
        """Add up the gradients of the critics that count at optimiser step `step`; returns what each minimises."""
        terms = {}
        for loss in self.critics:
            if weight_at(loss.weight, step) > 0:
                terms[f"{loss.name}_critic"] = term = loss.critic_loss(predicted)
                (term / passes).backward()
        return terms

    def _update(self, number: int, finite: bool) -> None:
        train = self.options.train
        self.whole = False
        if finite:
            self.precision.scaler.step(self.adam)
            for loss in self.critics:
                self.world.average_gradients(loss.critic.parameters())
                loss.adam.step()
            if (number + 1) % train.ema_every == 0 or number + 1 == train.steps:
                self.ema.update(self.model)
        for loss in self.critics:
            loss.adam.zero_grad(set_to_none=True)
        self.precision.scaler.update()
        self.whole = True

    def _weigh(self, predicted: Step, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """The terms that count at optimiser step `step`, by name and unweighted, and their weighted sum."""
        terms, total = {}, torch.zeros((), device=self.device)
        for loss in self.losses:
            weight = weight_at(loss.weight, step)
            if weight > 0:
                terms[loss.name] = term = loss(predicted)
                total = total + weight * term
        return terms, total

    def _predict(self, batch: Batch, number: int = 0) -> Step:
        """Networks and process on a batch at optimiser step `number`: what the losses look at."""
        hr, up, reference, degraded = (
            acceleration.in_format(image(batch, key), self.options.train.channels_last)
            for key in ("hr", "up", "reference", "degraded_reference")
        )
        t, noise, fidelity = batch["t"], batch["noise"], batch.get("fidelity")
        x0, x_in = 2 * hr - 1, 2 * up - 1
        residual = x_in - x0
        x_t, x0_teacher = self.process.diffuse(x0, residual, noise, t), None
        if self.teacher is not None:
            x_t, x0_teacher = self.teacher(up, reference, degraded, batch["has_reference"], noise, t, fidelity)
        inputs = (x_t, t, up, reference, degraded, batch["has_reference"], fidelity)
        with self.precision.of_networks():
            outputs = self.network(*inputs)
        outputs = tuple(output.float() for output in outputs)
        whole = predicted = self.objective.convert(outputs, self.process, x_t, x_in, t, clamp=False)
        if self.options.train.detach_residual:
            shown = tuple(
                output.detach() if name == "residual" else output
                for name, output in zip(self.objective.outputs, outputs, strict=True)
            )
            predicted = self.objective.convert(shown, self.process, x_t, x_in, t, clamp=False)
        targets = dict(zip(self.objective.outputs, self.objective.targets(x0, x_in, noise), strict=True))
        if self.options.train.self_ensemble and any(teaches_residual(loss, number) for loss in self.losses):
            with self.precision.of_networks():
                place = self.objective.outputs.index("residual")
                elsewhere = residual_elsewhere(self.ema.model, inputs, number, place)
            targets["residual"] = targets["residual"].lerp(elsewhere, self.options.train.self_ensemble)
        step = Step(
            outputs=dict(zip(self.objective.outputs, outputs, strict=True)),
            targets=targets,
            posterior=self.process.posterior_mean(x_t, predicted.residual, predicted.noise, t),
            posterior_target=self.process.posterior_mean(x_t, residual, noise, t),
            x0=predicted.x0,
            x0_target=x0,
            faithful=x_in - whole.residual,
            x0_teacher=x0_teacher,
            fidelity=fidelity,
        )
        return step.masked(batch["valid"]) if "valid" in batch else step

    def scale_state(self) -> dict[str, Any]:
        """The gradient scale of float16, as JSON; empty otherwise."""
        return self.precision.scaler.state_dict()

    def restore(self, stored: checkpoint.Stored) -> None:
        """Put a checkpoint's content in place."""
        checkpoint.restore_checkpoint(stored, self.model, self.ema, self.adam, self.critics)
        if self.precision.scaler.is_enabled() and stored.counters.get("scale"):
            self.precision.scaler.load_state_dict(stored.counters["scale"])
