"""What `genai VERB --help` prints for Lightning's verbs: one page; LightningCLI's own help has twenty (`--help-all`)."""

COMMON = """\
common options (every dotted option of the YAML works: --model.init_args.ema_halflife_kimg 20):
  -c FILE                          a YAML file; may be repeated, later ones override
  --model NAME  --data NAME        a class, by its name or import path: --model GAN --data Digits
  --trainer.max_epochs N           all of Lightning's Trainer flags work: --trainer.max_steps, --trainer.devices,
                                   --trainer.precision, --trainer.callbacks, --trainer.logger, --trainer.profiler, ...
  --data.init_args.batch_size N    --data.init_args.root FOLDER (else $GENAI_DATA, else data/)
  --evaluation.num_samples N       samples that are scored (10,000)
  --evaluation.every_n_epochs K    score each K epochs; 0: never                --evaluation.features NAME
  --tracker wandb|csv|tensorboard|none    W&B works without an account (offline); metrics.csv is always written
  --seed_everything N              the run's seed (0)
  --trust PACKAGE                  a package, besides genai and torch, whose classes a run from elsewhere may name
  --print_config                   print the whole configuration and stop; the output is a valid -c file
  --help-all                       every option"""

RUN_TEXT = """\
RUN is a run directory, an experiment (its newest run) or a zoo entry; `genai runs` lists the runs.
  --checkpoint best|last|FILE      which weights (best: the lowest validation FID, or --best_metric)"""

VERB_HELP = {
    "fit": f"""\
usage: genai fit -c configs/mnist/gan.yaml [-c configs/trainer/gpu.yaml] [options]
       genai fit --resume RUN [options]

Trains a model into a new directory runs/<experiment>/<time>. --resume continues a run in its directory from its last
checkpoint, exactly as if it had not been interrupted.

  --experiment NAME                folder of the run (default: from the YAML's path, mnist-gan)
  --init_from RUN                  start from the averaged weights of a run or zoo entry
  --checkpoint previous|FILE       with --resume: continue from another checkpoint than the last
  --checkpoint_every_n_steps N     write last.ckpt each N training batches, besides each epoch
  --best_metric NAME               the metric that best.ckpt minimises (val/fid)
  --collapse.over X                a class is over-represented from X times its real share on (2); also --collapse.missing
                                   (0.1); the fit reports mode collapse, RUN/samples/collapse.png shows it
{COMMON}""",
    "validate": f"""\
usage: genai validate RUN [options]

Scores a run on the validation split.
{RUN_TEXT}
{COMMON}""",
    "test": f"""\
usage: genai test RUN [options]

Scores a run on the test split: FID, IS, KID, precision, recall and class shares, beside the real-against-real floor.
{RUN_TEXT}
{COMMON}""",
    "predict": f"""\
usage: genai predict RUN [options]

Generates one image for each image of the test split (with its label, for a conditional model) into RUN/predictions.npz.
{RUN_TEXT}
{COMMON}""",
}
