# Which encoder is better, and how sure one can be of it. PDF and PNG, each with the CSV it was drawn from.
# in:  results/splits, results/gma
# out: results/figures, results/tables


rule figure_ranking:
    "The encoders of each task from best to worst, with the range that bootstrap resamples give their ranks."
    input:
        predictions=expand("results/gma/{task}/{encoder}/predictions.parquet", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("figure_ranking", "figure_style", "comparisons", "decisions", "runs", "statistics"),
    output:
        pdf="results/figures/ranking.pdf",
        png=report("results/figures/ranking.png", caption="captions/ranking.rst", category="1 Results", labels={"result": "3 Ranking"}),
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
        " --predictions {input.predictions}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_differences:
    "The difference of every pair of encoders on the same splits, with the interval of the corrected resampled t-test."
    input:
        predictions=expand("results/gma/{task}/{encoder}/predictions.parquet", task=JOBS.tasks, encoder=JOBS.encoders),
        splits=expand("results/splits/{task}.csv", task=JOBS.tasks),
        code=code("figure_differences", "figure_style", "comparisons", "decisions", "runs", "statistics"),
    output:
        pdf="results/figures/differences.pdf",
        png=report(
            "results/figures/differences.png", caption="captions/differences.rst", category="1 Results", labels={"result": "4 Differences"}
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
        " --predictions {input.predictions}"
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
        png=report("results/figures/roc.png", caption="captions/roc.rst", category="1 Results", labels={"result": "5 ROC"}),
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


rule figure_calibration:
    "Whether the probabilities can be taken at their word, and how many slides say so."
    input:
        predictions=expand("results/gma/{task}/{encoder}/predictions.parquet", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("figure_calibration", "figure_style", "decisions", "runs"),
    output:
        pdf="results/figures/calibration.pdf",
        png=report(
            "results/figures/calibration.png", caption="captions/calibration.rst", category="1 Results", labels={"result": "7 Calibration"}
        ),
        csv="results/figures/calibration.csv",
    log:
        "logs/figures/calibration.log",
    benchmark:
        "benchmarks/figures/calibration.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
    shell:
        "python -m microtome.figure_calibration"
        " --predictions {input.predictions}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule decisions:
    "What a threshold chosen on the training slides does on the validation slides: accuracy, sensitivity, specificity, and the Brier score."
    input:
        predictions=expand("results/gma/{task}/{encoder}/predictions.parquet", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("decisions", "table_files", "runs", "statistics"),
    output:
        html=report(
            "results/tables/decisions.html",
            caption="captions/decisions.rst",
            category="1 Results",
            labels={"result": "6 Decisions (table)"},
        ),
        files=expand("results/tables/decisions.{kind}", kind=["csv", "md", "tex"]),
    log:
        "logs/tables/decisions.log",
    benchmark:
        "benchmarks/tables/decisions.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
        folder=lambda wildcards, output: os.path.dirname(output.html),
    shell:
        "python -m microtome.decisions"
        " --predictions {input.predictions}"
        " --folder {params.folder}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"
