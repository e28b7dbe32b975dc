"""The training loop: batches in, weights, logs and checkpoints out; whatever stops it, the work done is saved."""

import contextlib
import logging
import time
from dataclasses import dataclass, replace

from tqdm.contrib.logging import logging_redirect_tqdm

from ttrd3.engine import build, checkpoint, resume
from ttrd3.engine.best import Best
from ttrd3.engine.distributed import ALONE, PeerError, World
from ttrd3.engine.interrupts import Interrupts, before_errors, worker_deaths_wait
from ttrd3.engine.loading import Batch, DeviceBatches, TrainingSamples, batches, to_device, training_loader
from ttrd3.engine.logs import RunLog
from ttrd3.engine.options import Options
from ttrd3.engine.run_folder import RunFolder, step_label
from ttrd3.engine.stepper import Outcome, Stepper
from ttrd3.engine.validation import make_restorer, make_validator, protocol
from ttrd3.engine.validator import Validation
from ttrd3.errors import CheckpointError, UserError
from ttrd3.files import require_free_space
from ttrd3.paths import input_path, output_path

logger = logging.getLogger(__name__)


@dataclass
class Skipped:
    """Steps without a finite gradient: in a row until now, and in all."""

    row: int = 0
    total: int = 0


class Trainer:
    """Everything a run needs, built and tried before step 0; the main process alone writes files and speaks."""

    def __init__(self, options: Options, world: World = ALONE, accept_changes: bool = False):
        """Build from options.

        Args:
            options: Of the run.
            world: The processes that train together.
            accept_changes: Go on with a run although options with influence on its weights have changed.

        Raises:
            UserError: Any option, file or device that cannot be used; nothing has been written then.
        """
        self.options, self.world = options, world
        self.folder = RunFolder(options)
        if world.main and self.folder.path.is_dir():
            self.folder.occupy()
        self.device = build.build_device(options.device, world)
        self.data = build.build_dataset(options.data.train, options.seed, self.device)
        self.validator = make_validator(options, self.device, world)
        train = options.train
        self.best = Best(self.folder, self.validator.measure.images, train.best, train.patience)
        self.stepper = Stepper(options, self.device, world)
        process = self.stepper.process
        times = None if options.distill is None else process.times(options.distill.steps)[:-1]
        fidelity = train.fidelity if self.stepper.model.told_fidelity else None
        self.samples = TrainingSamples(self.data, process.timesteps, options.seed, train.at_start, times, fidelity)
        self.step = self.saved_step = 0
        self.skipped = Skipped()
        self.ended_early = self.interrupted = False
        self._notes: list[str] = []
        self._resume_or_start(accept_changes)
        self._require_same_start()
        size = sum(p.numel() * p.element_size() for p in self.stepper.model.parameters())
        # Model, average and Adam's two moments per checkpoint; one more is there while it is written.
        missing = max(1, train.keep_checkpoints + 1 - len(self.folder.checkpoints()))
        require_free_space(self.folder.path, 4 * size * missing, "keeping checkpoints")

    def run(self) -> Validation | None:
        """Train to the last step and validate; None if interrupted, or if all of that was done before."""
        if not self.finished:
            self._rehearse()
            if self.options.train.cache:  # one process makes it, the others wait for it
                self.data.use_cache(output_path(self.options.output) / ".cache")
        if self.world.main:
            self.folder.create()
        logs = self.folder.logging() if self.world.main else contextlib.nullcontext()
        with logs, Interrupts(quiet=not self.world.main) as interrupts:
            self._announce()
            found = None
            if not self.finished:
                if self.world.main:
                    self.folder.describe(self.options, self.device, self.step, self.world.size)
                found = self._loop(interrupts)
            (asked,) = self.world.agree(interrupts.asked)
            if self.finished and not self._is_validated() and not asked:
                found = self._validate(interrupts)
            self.interrupted = not (self.finished and self._is_validated())
            if self.interrupted:
                logger.warning("stopped after step %d; the same command goes on from there", self.step)
                return None
            self._write_missing_weights()
            return found

    @property
    def finished(self) -> bool:
        """Whether the last step is done, or training has ended early for want of improvement."""
        return self.ended_early or self.step == self.options.train.steps

    def _loop(self, interrupts: Interrupts) -> Validation | None:
        """Train until the end or an interrupt; returns the newest validation."""
        train = self.options.train
        pin = self.device.type == "cuda"
        first = self.step * train.accumulation
        loader = training_loader(self.samples, train.batch_size, first, train.workers, pin, self.world)
        stream = DeviceBatches(loader, self.device)
        images = train.batch_size * train.accumulation
        log = RunLog(
            self.folder.tensorboard, train.log_every, images, self.step, train.steps, self.device, self.world.main
        )
        found = None
        with log, logging_redirect_tqdm([logging.getLogger("ttrd3")]), before_errors(self._save_rest):
            self._keep_best()
            if self._is_due() and not self._is_validated():  # the run was stopped between this step and its validation
                found = self._validated(interrupts, log)
            while not self.finished:
                passes = self._next_passes(stream, interrupts)
                if passes is None:
                    break
                with worker_deaths_wait():
                    outcome = self.stepper.step(self.step, passes)
                    self.step += 1
                    self._count(outcome, passes)
                    log.add(self.step, outcome.values if outcome.updated else {}, stream.waited)
                stream.waited = 0.0
                started = time.perf_counter()
                if self._is_due() or self.step % train.checkpoint_every == 0:
                    self._save()
                if self._is_due():
                    found = self._validated(interrupts, log)
                log.pause(time.perf_counter() - started)
            if self.saved_step != self.step:
                self._save()
        return found

    def _next_passes(self, stream: DeviceBatches, interrupts: Interrupts) -> list[Batch] | None:
        """The batches of the next step; None if any process was asked to stop.

        Raises:
            UserError: An image cannot be used, here or (PeerError) in another process.
        """
        passes, failure = [], None
        try:
            passes = [next(stream) for _ in range(self.options.train.accumulation)]
        except Exception as error:  # all processes must hear of it before they wait for each other in the step
            failure = error
        asked, failed = self.world.agree(interrupts.asked, failure is not None)
        if failure is not None:
            raise failure
        if failed:
            raise PeerError
        return None if asked else passes

    def _count(self, outcome: Outcome, passes: list[Batch]) -> None:
        """Keep count of skipped steps.

        Raises:
            UserError: `max_skipped` in a row.
        """
        if outcome.updated:
            self.skipped.row = 0
            return
        self.skipped.total += 1
        if outcome.overflow:
            logger.info("step %d: skipped, float16 overflowed; the gradient's scale is lowered", self.step)
            return
        self.skipped.row += 1
        values = outcome.values
        found = f"the loss is {values['loss/total']:.4g}, the gradient {values['train/gradient_norm']:.4g}"
        logger.warning("step %d: skipped, %s", self.step, found)
        if self.skipped.row < self.options.train.max_skipped:
            return
        names = [name for share in self.world.gather([n for batch in passes for n in batch["name"]]) for name in share]
        stuck, self.step = self.step, self.step - self.skipped.row
        self.skipped = Skipped(total=self.skipped.total - self.skipped.row)
        if self.saved_step < self.step:
            self._save()  # the weights are those of the last step that was not skipped
        raise UserError(
            f"step {stuck}: {found}, as in {self.options.train.max_skipped} steps in a row, which were all skipped. "
            f"The last good state, step {self.step}, is saved. The batch was: {', '.join(names)}. Look at these "
            f"images, lower train.learning_rate ({self.options.train.learning_rate}), or train in float32 "
            f"(train.precision is {self.options.train.precision}); then go on with --accept-changes."
        )

    def _save_rest(self) -> None:
        """Save the steps done since the newest checkpoint."""
        if self.stepper.whole and self.saved_step < self.step:
            with contextlib.suppress(UserError):  # the first error is the one to tell
                self._save()

    def _rehearse(self) -> None:
        """One forward and backward pass and one sampling step, so that what cannot work fails before step 0."""
        batch_size = self.options.train.batch_size
        loader = training_loader(self.samples, batch_size, 0, workers=0, pin=False, world=self.world)
        self.stepper.rehearse(to_device(next(batches(loader)), self.device))
        restorer = make_restorer(self.options, self.stepper.ema.model, self.stepper.process)
        self.validator.require_space(self.folder.path)
        self.validator.rehearse(replace(restorer, steps=1))

    def _resume_or_start(self, accept_changes: bool) -> None:
        found, train = self.folder.checkpoints(), self.options.train
        if found:
            resumed = resume.newest_whole(found)
            resume.require_same_run(resumed, self.options, accept_changes)
            self._notes = resumed.notes
            stored = resumed.stored
            self.stepper.restore(stored)
            self.step = self.saved_step = stored.step
            self.skipped = Skipped(**stored.counters.get("skipped", {}))
            self.ended_early = self.best.is_exhausted(self.step)
        elif train.start_from is not None:
            model, ema = self.stepper.model, self.stepper.ema
            stored = checkpoint.load_weights(model, input_path(train.start_from), self.options)
            ema.model.load_state_dict(model.state_dict())
            self._notes = [f"starts from {stored.path} (step {stored.step})"]

    def _require_same_start(self) -> None:
        """Refuse processes that found different checkpoints, as on machines that do not share `output`.

        Raises:
            CheckpointError: Says where each would start.
        """
        steps = self.world.gather(self.step)
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"{self.folder.path}: the processes would go on from different steps ({', '.join(map(str, steps))}). "
                "Set output to a folder on a file system that all machines share."
            )

    def _announce(self) -> None:
        train, parameters = self.options.train, sum(p.numel() for p in self.stepper.model.parameters())
        count = f"{self.world.size} processes, each " if self.world.size > 1 else ""
        logger.info("run folder %s", self.folder.path)
        logger.info("%s with %.2f M parameters", self.options.model.unet.type, parameters / 1e6)
        logger.info("%son %s in %s", count, self.device, train.precision)
        logger.info("%d training tiles, %d validation tiles", len(self.data), len(self.validator.dataset))
        for note in self._notes:
            logger.warning("%s", note)
        if self.step == train.steps:
            logger.info("already trained to step %d; raise train.steps or choose another name for more", self.step)
        elif self.ended_early:
            self._tell_early_end()
        elif self.step:
            logger.info("goes on from step %d of %d", self.step, train.steps)

    def _save(self) -> None:
        if self.world.main:
            stepper, counters = self.stepper, {"skipped": vars(self.skipped), "scale": self.stepper.scale_state()}
            # Weights first: whatever interrupts, they are never older than the checkpoint that a new start finds.
            checkpoint.save_weights(self.folder.weights, stepper.ema, self.options, self.step)
            path = self.folder.checkpoint(self.step)
            checkpoint.save_checkpoint(
                path, stepper.model, stepper.ema, stepper.adam, self.options, self.step, counters, stepper.critics
            )
            others = [other for other in self.folder.checkpoints() if other != path]  # damaged newer ones among them
            for old in others[self.options.train.keep_checkpoints - 1 :]:
                old.unlink(missing_ok=True)
        self.saved_step = self.step

    def _write_missing_weights(self) -> None:
        """A finished run whose weights file was deleted gets it back from its checkpoint."""
        self._keep_best()
        if self.world.main and not self.folder.weights.is_file():
            checkpoint.save_weights(self.folder.weights, self.stepper.ema, self.options, self.step)

    def _is_due(self) -> bool:
        every = self.options.train.validate_every
        return self.step == self.options.train.steps or bool(every and self.step and self.step % every == 0)

    def _is_validated(self) -> bool:
        # The main process writes it: the others may look before or after.
        return self.world.agree(self.world.main and self.step in self.folder.validations())[0]

    def _validated(self, interrupts: Interrupts, log: RunLog) -> Validation | None:
        """Validate in the course of training: logged, and deciding whether training goes on."""
        found = self._validate(interrupts)
        if found is not None:
            log.validation(self.step, found.results.overall(), found.pictures)
            (self.ended_early,) = self.world.agree(self.world.main and self.best.is_exhausted(self.step))
            if self.ended_early:
                self._tell_early_end()
        return found

    def _tell_early_end(self) -> None:
        train = self.options.train
        logger.info(
            "ended early: %s has not improved in %d validations since step %d; raise train.patience for more",
            train.best, train.patience, self.best.step(self.step),
        )  # fmt: skip

    def _validate(self, interrupts: Interrupts) -> Validation | None:
        """Validate the averaged weights as they are now; None if interrupted."""
        restorer = make_restorer(self.options, self.stepper.ema.model, self.stepper.process)
        described = protocol(self.options, self.folder.weights.name, self.step)
        folder = self.folder.validation(step_label(self.step))
        found = self.validator.run(restorer, folder, described, lambda: interrupts.asked)
        if found is None:
            logger.warning("validation stopped; training is saved at step %d", self.step)
            return None
        for method, means in found.results.overall().items():
            listed = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
            logger.info("validation at step %d: %s %s", self.step, method, listed)
        self._keep_best()
        return found

    def _keep_best(self) -> None:
        """Write best.safetensors where this step's validation is the best and the file is older, or not there."""
        if not self.world.main or self.best.step(self.step) != self.step:
            return
        results = self.folder.validations()[self.step]
        if not self.folder.best.is_file() or self.folder.best.stat().st_mtime_ns < results.stat().st_mtime_ns:
            checkpoint.save_weights(self.folder.best, self.stepper.ema, self.options, self.step)
            logger.info("best %s so far: %s", self.options.train.best, self.folder.best.name)
