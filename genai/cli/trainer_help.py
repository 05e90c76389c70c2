"""What `genai VERB --help` prints for Lightning's verbs: one page; LightningCLI's own help has twenty (`--help-all`)."""

COMMON = """\
common options; every dotted option of the YAML works, such as
--model.init_args.ema_halflife_kimg 20:
  -c NAME                   a preset (`genai presets`) or a YAML file; may be
                            repeated, later ones override
  --model NAME, --data NAME a class by its name or import path: --model GAN
  --trainer.max_epochs N    all flags of Lightning's Trainer work: max_steps,
                            devices, precision, callbacks, logger, ...
  --data.init_args.batch_size N
  --data.init_args.root FOLDER
                            folder of the data (default: $GENAI_DATA or data/)
  --evaluation.num_samples N
                            number of samples to score (default: 10000)
  --evaluation.every_n_epochs K
                            score every K epochs; 0: never
  --evaluation.features NAME
                            feature network of the scores
  --tracker NAME            wandb (offline without an account), csv,
                            tensorboard or none; metrics.csv is always written
  --wandb.project NAME      also group, tags, notes and name; W&B's variables,
                            such as WANDB_RUN_GROUP, set what is not given
  --seed_everything N       seed of the run (default: 0)
  --trust PACKAGE           a package besides genai and torch whose classes the
                            run's config may name; may be repeated
  --print_config            print the whole configuration as a valid -c file
  --help-all                print every option"""

RUN_TEXT = """\
  RUN                       run directory, experiment (its newest run) or
                            zoo/NAME; `genai runs` lists them
  --checkpoint NAME         best, last or a file (default: best, the lowest
                            validation FID or --best_metric)"""

VERB_HELP = {
    "fit": f"""\
usage: genai fit -c configs/mnist/gan.yaml [-c FILE...] [options]
       genai fit --resume RUN [options]

Train a model into a new directory runs/EXPERIMENT/TIME. --resume continues a
run in its directory from its last checkpoint, exactly as if it had not been
interrupted.

  --experiment NAME         folder of the run (default: from the YAML's path,
                            such as mnist-gan)
  --init_from RUN           start from the averaged weights of a run
  --checkpoint NAME         with --resume: another checkpoint than the last,
                            `previous` or a file
  --changed_data            with --resume: resume even if the training images
                            differ from those of the checkpoint
  --checkpoint_every_n_steps N
                            also write last.ckpt every N training batches
  --best_metric NAME        metric that best.ckpt minimises (default: val/fid)
  --energy true             measure the energy of the fit (genai[energy])
  --flops true              count the operations of the first steps
  --collapse.max_share_ratio X
                            report mode collapse if a class has X times its
                            real share (default: 2)

{COMMON}""",
    "validate": f"""\
usage: genai validate RUN [options]

Score a run on the validation split.

{RUN_TEXT}

{COMMON}""",
    "test": f"""\
usage: genai test RUN [options]

Score a run on the test split: FID, KID, precision, recall, ... and class
shares, beside the floor (real images against real images).

{RUN_TEXT}

{COMMON}""",
    "predict": f"""\
usage: genai predict RUN [options]

Generate one image for each image of the test split, with its label if the model
is conditional, into RUN/predictions.npz.

{RUN_TEXT}

{COMMON}""",
}
