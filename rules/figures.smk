# How training went and what its encoders are worth: the figures of the paper, and what the tissue step saw.
# PDF and PNG, each with the CSV it was drawn from.
# in:  results/tissue, results/catalog, results/pretrain, results/gma
# out: results/figures


rule figure_pretraining:
    "The training loss of each run against pseudo-epochs, ImageNet epochs and steps."
    input:
        curves=[
            f"results/pretrain/{run}/{pseudo_epoch}/curve.csv"
            for run in CONFIG.pretrain.runs
            for pseudo_epoch in range(1, CONFIG.pretrain.runs[run].pseudo_epochs + 1)
        ],
        code=code("figure_pretraining", "figure_style", "runs"),
    output:
        pdf="results/figures/pretraining.pdf",
        png=report(
            "results/figures/pretraining.png",
            caption="captions/pretraining.rst",
            category="5 Pretraining",
            labels={"result": "1 Training loss"},
        ),
        csv="results/figures/pretraining.csv",
    log:
        "logs/figures/pretraining.log",
    benchmark:
        "benchmarks/figures/pretraining.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
    shell:
        "python -m microtome.figure_pretraining"
        " --curves {input.curves}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_convergence:
    "Training loss and validation AUC of the aggregators, epoch by epoch: a panel a task, encoders compared."
    input:
        runs=expand("results/gma/{task}/{encoder}/runs.csv", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("figure_convergence", "figure_style", "runs", "statistics"),
    output:
        pdf="results/figures/convergence.pdf",
        png=report(
            "results/figures/convergence.png", caption="captions/convergence.rst", category="1 Results", labels={"result": "8 Convergence"}
        ),
        csv="results/figures/convergence.csv",
    log:
        "logs/figures/convergence.log",
    benchmark:
        "benchmarks/figures/convergence.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
    shell:
        "python -m microtome.figure_convergence"
        " --runs {input.runs}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_checkpoints:
    "Validation AUC at each checkpoint of a run, as distributions over splits, with the baselines beside."
    input:
        runs=expand("results/gma/{task}/{encoder}/runs.csv", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("figure_checkpoints", "figure_style", "runs"),
    output:
        pdf="results/figures/checkpoints.pdf",
        png=report(
            "results/figures/checkpoints.png", caption="captions/checkpoints.rst", category="1 Results", labels={"result": "2 Checkpoints"}
        ),
        csv="results/figures/checkpoints.csv",
    log:
        "logs/figures/checkpoints.log",
    benchmark:
        "benchmarks/figures/checkpoints.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
    shell:
        "python -m microtome.figure_checkpoints"
        " --runs {input.runs}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_overlays:
    "The overlays of a sample of slides, from which a person sees whether tissue was found."
    input:
        catalog="results/catalog/slides.parquet",
        code=code("figure_overlays", "figure_style"),
    output:
        pdf="results/figures/overlays.pdf",
        png=report(
            "results/figures/overlays.png", caption="captions/overlays.rst", category="4 Data quality", labels={"result": "2 Tissue found"}
        ),
        csv="results/figures/overlays.csv",
    log:
        "logs/figures/overlays.log",
    benchmark:
        "benchmarks/figures/overlays.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        seed=CONFIG.seed,
        tissue="results/tissue",
    shell:
        "python -m microtome.figure_overlays"
        " --catalog {input.catalog}"
        " --tissue {params.tissue}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --seed {params.seed}"
        " > {log} 2>&1"
