"""Encoders: pictures in, features out.

An **encoder** is a backbone with its preprocessing. What others may ask of one is its socket:

    encoder.size        side of the pictures it takes, in pixels
    encoder.tokens      features a picture: 1 where they are pooled, k of a grid of k places
    encoder.dimension   length of a feature
    encoder.extract(pixels)  uint8 (n, size, size, 3) → float32 (n, tokens, dimension)
    encoder.extract_grid(pixels)  → float32 (n, k, dimension), the map that pooling averages
    encoder.grid        its height and width in places; refused where there is no such map
    encoder.record      how to make it again, JSON-able
    encoder.seen        the images it was trained on

    loading.load("simclr")       by the name of published weights, or from any file of weights
    loading.from_record(record)  the one that a captioner was trained with

A **backbone** is a network with its weights (`backbones.Backbone`). To add a network, write one
file with a `network.Network` and one line in `registry.BACKBONES`; docs/examples/toy_backbone.py
is an example. To add published weights, add a row to `sources.SOURCES`.

    registry      names of the networks, cheap to import: choices and help of the scripts
    network       the socket of a network; residual: ResNet-18, ResNet-50 and smaller ones
    backbones     weights: read from files of any framework, drawn at random, saved
    sources       published weights: where from, how their pictures are prepared, licences
    loading       encoders by name, file or record
    context_free  the network of the jigsaw branch, and its two kinds of features
    extraction    features of a folder of pictures; interrupted, it goes on where it stopped

Neighbours: pictures and ids are `data`'s, files of other frameworks `formats`', how an encoder is
trained `pretraining`'s, how good its features are `scores`'.
"""
