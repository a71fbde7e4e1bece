"""The rankings of a folder as text: Markdown for a pull request, LaTeX for a paper."""
