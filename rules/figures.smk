# What a person reads: figures as PDF and PNG, each with the CSV it was drawn from, tables, and the report that holds them.
# in:  results/catalog, results/schedule, results/pretrain, results/splits, results/gma
# out: results/figures, results/tables, results/report.html


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
            "results/figures/pretraining.png", caption="captions/pretraining.rst", category="Results", labels={"figure": "1 Pretraining"}
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
            "results/figures/convergence.png", caption="captions/convergence.rst", category="Results", labels={"figure": "2 Convergence"}
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
            "results/figures/checkpoints.png", caption="captions/checkpoints.rst", category="Results", labels={"figure": "3 Checkpoints"}
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


rule figure_ranking:
    "The encoders of each task from best to worst, with the range that bootstrap resamples give their ranks."
    input:
        runs=expand("results/gma/{task}/{encoder}/runs.csv", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("figure_ranking", "figure_style", "comparisons", "runs", "statistics"),
    output:
        pdf="results/figures/ranking.pdf",
        png=report("results/figures/ranking.png", caption="captions/ranking.rst", category="Results", labels={"figure": "4 Ranking"}),
        csv="results/figures/ranking.csv",
    log:
        "logs/figures/ranking.log",
    benchmark:
        "benchmarks/figures/ranking.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
    shell:
        "python -m microtome.figure_ranking"
        " --runs {input.runs}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_differences:
    "The difference of every pair of encoders on the same splits, with the interval of the corrected resampled t-test."
    input:
        runs=expand("results/gma/{task}/{encoder}/runs.csv", task=JOBS.tasks, encoder=JOBS.encoders),
        splits=expand("results/splits/{task}.csv", task=JOBS.tasks),
        code=code("figure_differences", "figure_style", "comparisons", "runs"),
    output:
        pdf="results/figures/differences.pdf",
        png=report(
            "results/figures/differences.png", caption="captions/differences.rst", category="Results", labels={"figure": "5 Differences"}
        ),
        csv="results/figures/differences.csv",
    log:
        "logs/figures/differences.log",
    benchmark:
        "benchmarks/figures/differences.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
    shell:
        "python -m microtome.figure_differences"
        " --runs {input.runs}"
        " --splits {input.splits}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_roc:
    "ROC curves of the last epoch on the validation slides, averaged over splits."
    input:
        predictions=expand("results/gma/{task}/{encoder}/predictions.parquet", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("figure_roc", "figure_style", "runs", "statistics"),
    output:
        pdf="results/figures/roc.pdf",
        png=report("results/figures/roc.png", caption="captions/roc.rst", category="Results", labels={"figure": "6 ROC"}),
        csv="results/figures/roc.csv",
    log:
        "logs/figures/roc.log",
    benchmark:
        "benchmarks/figures/roc.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
    shell:
        "python -m microtome.figure_roc"
        " --predictions {input.predictions}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_balance:
    "How balanced the schedules are between organs, and how often they return to tiles."
    input:
        balance="results/schedule/quota/balance.csv",
        code=code("figure_balance", "figure_style"),
    output:
        pdf="results/figures/balance.pdf",
        png=report("results/figures/balance.png", caption="captions/balance.rst", category="Cohort", labels={"figure": "Balance of organs"}),
        csv="results/figures/balance.csv",
    log:
        "logs/figures/balance.log",
    benchmark:
        "benchmarks/figures/balance.tsv"
    conda:
        "../envs/microtome.yaml"
    shell:
        "python -m microtome.figure_balance"
        " --balance {input.balance}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " > {log} 2>&1"


rule overlap:
    "How many validation patients of each task pretraining has seen: stated, whatever was decided."
    input:
        catalog="results/catalog/slides.parquet",
        quota="results/schedule/quota/slides.parquet",
        splits=expand("results/splits/{task}.csv", task=JOBS.tasks),
        code=code("overlap", "tables"),
    output:
        csv=report(
            "results/tables/overlap.csv", caption="captions/overlap.rst", category="Cohort", labels={"table": "Overlap with pretraining"}
        ),
        md="results/tables/overlap.md",
    log:
        "logs/tables/overlap.log",
    benchmark:
        "benchmarks/tables/overlap.tsv"
    conda:
        "../envs/microtome.yaml"
    shell:
        "python -m microtome.overlap"
        " --catalog {input.catalog}"
        " --quota {input.quota}"
        " --splits {input.splits}"
        " --csv {output.csv}"
        " --md {output.md}"
        " > {log} 2>&1"


rule tables:
    "The cohort by organ, the tasks, and the final AUC of each encoder on each task."
    input:
        catalog="results/catalog/slides.parquet",
        splits=expand("results/splits/{task}.csv", task=JOBS.tasks),
        runs=expand("results/gma/{task}/{encoder}/runs.csv", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("tables", "runs"),
    output:
        cohort=report("results/tables/cohort.csv", caption="captions/cohort.rst", category="Cohort", labels={"table": "Cohort by organ"}),
        tasks=report("results/tables/tasks.csv", caption="captions/tasks.rst", category="Cohort", labels={"table": "Tasks"}),
        auc=report("results/tables/auc.csv", caption="captions/auc.rst", category="Results", labels={"figure": "Final AUC"}),
        md=expand("results/tables/{table}.md", table=["cohort", "tasks", "auc"]),
    log:
        "logs/tables/tables.log",
    benchmark:
        "benchmarks/tables/tables.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.tables_settings().json_text(),
        folder=lambda wildcards, output: os.path.dirname(output.cohort),
    shell:
        "python -m microtome.tables"
        " --catalog {input.catalog}"
        " --splits {input.splits}"
        " --runs {input.runs}"
        " --folder {params.folder}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule report:
    "One HTML file that holds the figures and tables with their captions, and how each was made."
    input:
        figures=expand("results/figures/{figure}.png", figure=FIGURES),
        tables=expand("results/tables/{table}.csv", table=TABLES),
        captions=expand(os.path.join(workflow.basedir, "rules/captions/{caption}.rst"), caption=["workflow", *FIGURES, *TABLES]),
    output:
        "results/report.html",
    log:
        "logs/report/report.log",
    benchmark:
        "benchmarks/report/report.tsv"
    conda:
        "../envs/microtome.yaml"
    shell:
        f"snakemake --snakefile {workflow.main_snakefile} {OVERLAYS} --nolock" " --report {output}" " > {log} 2>&1"
