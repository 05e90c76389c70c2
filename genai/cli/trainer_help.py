"""What `genai VERB --help` prints for Lightning's verbs: a page, where LightningCLI's own fills twenty (`--help-all`)."""

COMMON = """\
common options (any dotted option of the YAML works: --model.init_args.ema_halflife_kimg 20):
  -c FILE                          a YAML file; may be repeated, later ones override
  --trainer.max_epochs N           --trainer.precision 32|bf16-mixed|16-mixed      --trainer.devices N
  --data.init_args.batch_size N    --data.init_args.root FOLDER (else $GENAI_DATA, else data/)
  --evaluation.num_samples N          images drawn for the scores (10,000)
  --evaluation.every_n_epochs K       score each K epochs; 0: never                   --evaluation.features NAME
  --tracker wandb|csv|tensorboard|none    W&B works without an account (offline); metrics.csv is always written
  --seed_everything N              the run's seed (0)
  --trust PACKAGE                  a package, besides genai and torch, whose classes a run's config may name
  --print_config                   print the whole configuration and stop; the output is a valid -c file
  --help-all                       every option"""

RUN_TEXT = """\
RUN is a run directory, an experiment (its newest run) or a zoo entry; `genai runs` lists the runs.
  --checkpoint best|last|FILE      which weights (best, by validation FID)"""

VERB_HELP = {
    "fit": f"""\
usage: genai fit -c configs/mnist/gan.yaml [-c configs/trainer/gpu.yaml] [options]
       genai fit --resume RUN [options]

Trains a model into a new directory runs/<experiment>/<time>. --resume goes on with a run, in its directory, from its last
checkpoint, exactly as if it had not been interrupted.

  --experiment NAME                folder of the run (default: from the YAML's path, mnist-gan)
  --checkpoint previous|FILE       with --resume: go on from another checkpoint than the last
  --checkpoint_every_n_steps N     write last.ckpt each N optimizer steps, besides each epoch
  --collapse.over X                a class is over-drawn from X times its real share on (2); also --collapse.missing (0.1);
                                   the fit says when samples collapse, RUN/samples/collapse.png shows it
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

Draws one image for each picture of the test split (of its label, for a conditional model) into RUN/predictions.npz.
{RUN_TEXT}
{COMMON}""",
}
