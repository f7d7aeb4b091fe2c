"""The stages, told once: the numbered scripts and the jigsaw scripts call them.

A stage reads the files of the one before from a work folder and returns the paths it wrote:
`describe` (descriptions.txt), `extract` (features.pkl), `train` (model-ep….keras), `score`
(bleu-….json), `tokenizer` (tokenizer.pkl), `caption` (a caption for any image).

- `inputs`: captions, splits and tokenizer, which scripts 2 to 4 read alike.
- `artifacts`: names and formats of the files that pass. `checkpoints`: which captioner a folder's
  best is, and the shipped set, which `shipping` makes.
- `arguments`: what several scripts take on the command line.

Neighbours: how a captioner is trained is told in `objectives`, how captions are found in `search`,
finished runs are compared in `evaluation`.
"""
