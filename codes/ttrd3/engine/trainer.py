"""The training loop: batches in, weights, logs and checkpoints out."""

import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.engine import build, checkpoint
from ttrd3.engine.ema import EMA
from ttrd3.engine.interrupts import Interrupts
from ttrd3.engine.learning_rate import learning_rate
from ttrd3.engine.loading import Batch, TrainingSamples, batches, image, training_loader
from ttrd3.engine.logs import RunLog
from ttrd3.engine.options import Options
from ttrd3.engine.run_folder import RunFolder, step_label
from ttrd3.engine.validation import make_restorer, make_validator, protocol
from ttrd3.engine.validator import Validation
from ttrd3.errors import CheckpointError, UserError
from ttrd3.files import require_free_space
from ttrd3.losses.base import Step
from ttrd3.paths import input_path

logger = logging.getLogger(__name__)


class Trainer:
    """Everything a run needs, built and tried before step 0."""

    def __init__(self, options: Options):
        """Build from options.

        Raises:
            UserError: Any option, file or device that cannot be used; nothing has been written then.
        """
        self.options = options
        self.folder = RunFolder(options)
        self.device = build.build_device(options.device)
        self.data = build.build_dataset(options.data.train, options.seed, self.device)
        self.validator = make_validator(options, self.device)
        torch.manual_seed(options.seed)
        self.model = build.build_model(options.model, options.diffusion).to(self.device)
        self.process = build.build_process(options.diffusion).to(self.device)
        self.objective = OBJECTIVES[options.diffusion.objective]
        self.losses = build.build_losses(options, self.device)
        train = options.train
        self.adam = torch.optim.Adam(self.model.parameters(), train.learning_rate, tuple(train.betas))
        self.ema = EMA(self.model, train.ema_decay)
        self.step = self.saved_step = 0
        self._resume_or_start()
        size = sum(p.numel() * p.element_size() for p in self.model.parameters())
        # Model, average and Adam's two moments per checkpoint; one more is there while it is written.
        missing = max(1, train.keep_checkpoints + 1 - len(self.folder.checkpoints()))
        require_free_space(self.folder.path, 4 * size * missing, "keeping checkpoints")

    def run(self) -> Validation | None:
        """Train to the last step and validate; None if interrupted, or if all of that was done before."""
        if not self.finished:
            self._rehearse()
        self.folder.create()
        with self.folder.logging(), Interrupts() as interrupts:
            self._announce()
            found = None
            if not self.finished:
                self.folder.describe(self.options, self.device, self.step)
                found = self._loop(interrupts)
            if not self.finished:
                logger.warning("stopped after step %d; the same command goes on from there", self.step)
                return None
            self._write_weights_if_missing()
            done = (self.folder.validation(step_label(self.step)) / "results.json").exists()
            return found if done else self._validate(interrupts)

    @property
    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.step == self.options.train.steps

    def _loop(self, interrupts: Interrupts) -> Validation | None:
        """Train until the last step or an interrupt; returns the newest validation."""
        train = self.options.train
        samples = TrainingSamples(self.data, self.process.timesteps, seed=self.options.seed)
        per_step = train.batch_size * train.accumulation
        pin = self.device.type == "cuda"
        loader = training_loader(samples, train.batch_size, self.step * per_step, train.workers, pin)
        stream = batches(loader)
        bar = tqdm(total=train.steps, initial=self.step, desc="training", unit="step", disable=not sys.stderr.isatty())
        log = RunLog(self.folder.tensorboard, train.log_every, per_step, self.step, train.steps, bar)
        found = None
        with bar, log, logging_redirect_tqdm([logging.getLogger("ttrd3")]):
            while not self.finished and not interrupts.asked:
                values = self._train_step(stream)
                self.step += 1
                if self.step % train.ema_every == 0 or self.finished:
                    self.ema.update(self.model)
                log.add(self.step, values)
                started = time.perf_counter()
                due = self.finished or (train.validate_every and self.step % train.validate_every == 0)
                if due or self.step % train.checkpoint_every == 0 or interrupts.asked:
                    self._save()
                if due and not interrupts.asked:
                    found = self._validate(interrupts)
                    if found is not None:
                        log.validation(self.step, found.results.overall(), found.pictures)
                log.pause(time.perf_counter() - started)
            if self.saved_step != self.step:  # the signal came after the step's own saving
                self._save()
        return found

    def _train_step(self, stream: Iterator[Batch]) -> dict[str, float]:
        """One optimiser step over `accumulation` batches; returns what is logged."""
        train = self.options.train
        rate = learning_rate(self.step, train)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for _ in range(train.accumulation):
            terms = self._losses(next(stream))
            terms["total"] = sum(loss.weight * terms[loss.name] for loss in self.losses)
            (terms["total"] / train.accumulation).backward()
            for name, value in terms.items():
                sums[f"loss/{name}"] = sums.get(f"loss/{name}", 0) + value.detach() / train.accumulation
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm or math.inf)
        *means, gradient_norm = torch.stack([*sums.values(), norm]).tolist()  # one wait for the device a step
        if not math.isfinite(gradient_norm):
            raise UserError(
                f"step {self.step + 1}: the gradient is {gradient_norm}, which would destroy the weights. Not saved; "
                f"lower train.learning_rate ({train.learning_rate}) and give the command again."
            )
        self.adam.step()
        return dict(zip(sums, means, strict=True)) | {"train/gradient_norm": gradient_norm, "train/learning_rate": rate}

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        """The unweighted terms for a batch, by name."""
        hr, up, reference, degraded = (
            image(batch, key, self.device) for key in ("hr", "up", "reference", "degraded_reference")
        )
        t, noise, has_reference = (
            batch[key].to(self.device, non_blocking=True) for key in ("t", "noise", "has_reference")
        )
        x0, x_in = 2 * hr - 1, 2 * up - 1
        residual = x_in - x0
        x_t = self.process.diffuse(x0, residual, noise, t)
        outputs = self.model(x_t, t, up, reference, degraded, has_reference)
        predicted = self.objective.convert(outputs, self.process, x_t, x_in, t, clamp=False)
        step = Step(
            outputs=dict(zip(self.objective.outputs, outputs, strict=True)),
            targets=dict(zip(self.objective.outputs, self.objective.targets(x0, x_in, noise), strict=True)),
            posterior=self.process.posterior_mean(x_t, predicted.residual, predicted.noise, t),
            posterior_target=self.process.posterior_mean(x_t, residual, noise, t),
        )
        return {loss.name: loss(step) for loss in self.losses}

    def _rehearse(self) -> None:
        """One forward and backward pass and one sampling step, so that what cannot work fails before step 0."""
        samples = TrainingSamples(self.data, self.process.timesteps, seed=self.options.seed)
        loader = training_loader(samples, self.options.train.batch_size, 0, workers=0, pin=False)
        terms = self._losses(next(batches(loader)))
        sum(loss.weight * terms[loss.name] for loss in self.losses).backward()
        self.adam.zero_grad(set_to_none=True)
        restorer = make_restorer(self.options, self.ema.model, self.process)
        self.validator.rehearse(replace(restorer, steps=1))

    def _resume_or_start(self) -> None:
        found = self.folder.checkpoints()
        if found:
            stored = checkpoint.load_newest(found)
            checkpoint.require_same_architecture(stored, self.options)
            checkpoint.restore_checkpoint(stored, self.model, self.ema, self.adam)
            self.step = self.saved_step = stored.step
            if self.step > self.options.train.steps:
                raise CheckpointError(
                    f"{found[0]}: is at step {self.step}, but train.steps is {self.options.train.steps}. "
                    "Raise train.steps, or choose another name for a new run."
                )
            for name, then, now in checkpoint.changed_options(stored, self.options):
                logger.warning("%s was %r when this run was last saved, now it is %r", name, then, now)
        elif self.options.train.start_from is not None:
            stored = checkpoint.load_weights(self.model, input_path(self.options.train.start_from), self.options)
            self.ema.model.load_state_dict(self.model.state_dict())
            logger.info("starts from %s (step %d)", stored.path, stored.step)

    def _announce(self) -> None:
        train, parameters = self.options.train, sum(p.numel() for p in self.model.parameters())
        logger.info("run folder %s", self.folder.path)
        logger.info("%s with %.2f M parameters on %s", self.options.model.unet.type, parameters / 1e6, self.device)
        logger.info("%d training tiles, %d validation tiles", len(self.data), len(self.validator.dataset))
        if self.finished:
            logger.info("already trained to step %d; raise train.steps or choose another name for more", self.step)
        elif self.step:
            logger.info("goes on from step %d of %d", self.step, train.steps)

    def _save(self) -> None:
        # Weights first: whatever interrupts, they are never older than the checkpoint that a new start finds.
        checkpoint.save_weights(self.folder.weights, self.ema, self.options, self.step)
        path = self.folder.checkpoint(self.step)
        checkpoint.save_checkpoint(path, self.model, self.ema, self.adam, self.options, self.step)
        self.saved_step = self.step
        for old in self.folder.checkpoints()[self.options.train.keep_checkpoints :]:
            old.unlink()

    def _write_weights_if_missing(self) -> None:
        """A finished run whose weights file was deleted gets it back from its checkpoint."""
        if not self.folder.weights.is_file():
            checkpoint.save_weights(self.folder.weights, self.ema, self.options, self.step)

    def _validate(self, interrupts: Interrupts) -> Validation | None:
        """Validate the averaged weights as they are now; None if interrupted."""
        restorer = make_restorer(self.options, self.ema.model, self.process)
        described = protocol(self.options, self.folder.weights.name, self.step)
        folder = self.folder.validation(step_label(self.step))
        found = self.validator.run(restorer, folder, described, lambda: interrupts.asked)
        if found is None:
            logger.warning("validation stopped; training is saved at step %d", self.step)
            return None
        for method, means in found.results.overall().items():
            listed = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
            logger.info("validation at step %d: %s %s", self.step, method, listed)
        return found
