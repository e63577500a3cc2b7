# The training loop is a chain of jobs: a pseudo-epoch of a run starts from the one before. And what a run's network sees.
# in:  results/schedule
# out: results/pretrain/{run}/{pseudo_epoch}, results/figures/gallery
#
# Code is no input here: a comment must not cost weeks. A change that should retrain raises the recipe's `version`.

EVENTS = " --events results/pretrain/{wildcards.run}/events" if CONFIG.pretrain.tensorboard else ""


rule pretrain:
    "One pseudo-epoch of a run; its encoder can be evaluated while the next one trains."
    input:
        schedule="results/schedule/{pseudo_epoch}.arrow",
        previous=previous_state,
    output:
        encoder="results/pretrain/{run}/{pseudo_epoch}/encoder.safetensors",
        state="results/pretrain/{run}/{pseudo_epoch}/state.pt",
        curve="results/pretrain/{run}/{pseudo_epoch}/curve.csv",
    log:
        "logs/pretrain/{run}/{pseudo_epoch}.log",
    benchmark:
        "benchmarks/pretrain/{run}/{pseudo_epoch}.tsv"
    conda:
        "../envs/microtome.yaml"
    # Where its processes run, from the profile: nodes=0 is this machine. `launch` starts them, on Slurm by submitit.
    resources:
        nodes=0,
        processes=1,
        gpus=0,
        cpus=1,
        mem_mb=4000,
        runtime=60,
        slurm_partition="",
        slurm_account="",
        device=DEVICE,
    params:
        settings=lambda wildcards: JOBS.pretrain_settings(wildcards.run).json_text(),
        previous=lambda wildcards, input: f"--previous {input.previous}" if input.previous else "",
        slurm_logs="logs/slurm/pretrain/{run}/{pseudo_epoch}",
        work=lambda wildcards, output: os.path.join(os.path.dirname(output.state), "work"),
    shell:
        "python -m microtome.launch"
        " --folder {params.slurm_logs}"
        " --nodes {resources.nodes}"
        " --processes {resources.processes}"
        " --gpus {resources.gpus}"
        " --cpus {resources.cpus}"
        " --mem-mb {resources.mem_mb}"
        " --runtime-min {resources.runtime}"
        " --partition={resources.slurm_partition}"
        " --account={resources.slurm_account}"
        " -- "
        "python -m microtome.pretrain"
        " --schedule {input.schedule}"
        " {params.previous}"
        " --pseudo-epoch {wildcards.pseudo_epoch}"
        " --encoder {output.encoder}"
        " --state {output.state}"
        " --curve {output.curve}"
        " --work {params.work}"
        f" --save-every-minutes {CONFIG.pretrain.save_every_minutes}"
        f" --max-batch {CONFIG.pretrain.max_batch_per_process}"
        f" --max-replaced-tiles {CONFIG.pretrain.max_replaced_tiles}"
        " --workers {resources.cpus}"
        f" --compiled {CONFIG.pretrain.compile}"
        f"{EVENTS}"
        f" --monitor {in_command(CONFIG.pretrain.monitor)}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_gallery:
    "Tiles as a run's network sees them: DINO's augmented views, or what MAE reconstructs from the patches it keeps."

    # The code of training is no input here, either: what a view is belongs to the recipe and its version.
    input:
        schedule=lambda wildcards: f"results/schedule/{CONFIG.pretrain.runs[wildcards.run].pseudo_epochs}.arrow",
        state=lambda wildcards: f"results/pretrain/{wildcards.run}/{CONFIG.pretrain.runs[wildcards.run].pseudo_epochs}/state.pt",
        code=code("figure_gallery", "figure_style", "tile_sheet"),
    output:
        pdf="results/figures/gallery/{run}.pdf",
        png=report(
            "results/figures/gallery/{run}.png",
            caption="captions/gallery.rst",
            category="5 Pretraining",
            labels={"result": "3 Gallery of {run}"},
        ),
        csv="results/figures/gallery/{run}.csv",
    log:
        "logs/figures/gallery/{run}.log",
    benchmark:
        "benchmarks/figures/gallery/{run}.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        pseudo_epoch=lambda wildcards: CONFIG.pretrain.runs[wildcards.run].pseudo_epochs,
        tiles=CONFIG.figures.gallery_tiles,
        settings=lambda wildcards: JOBS.pretrain_settings(wildcards.run).json_text(),
    shell:
        "python -m microtome.figure_gallery"
        " --schedule {input.schedule}"
        " --pseudo-epoch {params.pseudo_epoch}"
        " --state {input.state}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --tiles {params.tiles}"
        f" --max-replaced-tiles {CONFIG.pretrain.max_replaced_tiles}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"
