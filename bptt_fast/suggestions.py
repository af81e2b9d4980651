"""What users of other libraries, or with a slip, mean by a name that there is not."""

from __future__ import annotations

from collections.abc import Collection

# ours: names of other libraries, in lower case without separators and without the endings of `ENDINGS`
FOREIGN = {
    # values
    "elman": "rnn simple simplernn vanilla vanillarnn",
    "mse": "meansquarederror squarederror l2",
    "squared_error": "mse meansquarederror l2",
    "mae": "meanabsoluteerror absoluteerror l1",
    "absolute_error": "mae meanabsoluteerror l1",
    "huber": "smoothl1",
    "pinball": "quantile",
    "gaussian": "gaussiannll normal",
    "poisson": "poissonnll",
    "cross_entropy": "ce nll log softmax categoricalcrossentropy sparsecategoricalcrossentropy",
    "log_loss": "ce nll crossentropy softmax categoricalcrossentropy sparsecategoricalcrossentropy",
    "binary_cross_entropy": "bce bcewithlogits logistic",
    "logistic": "sigmoid",
    "sigmoid": "logistic",
    "identity": "linear none",
    "linear": "identity none",
    "standard": "standardize standardise standardscaler zscore normalize",
    "levenberg_marquardt": "lm",
    "glorot": "xavier",
    # the network
    "input_size": "inputdim inputshape ninputs nfeatures infeatures",
    "hidden_size": "units hidden hiddendim hiddenunits hiddenlayersizes neurons nhidden",
    "output_size": "outputdim noutputs outfeatures nclasses numclasses classes",
    "num_layers": "layers nlayers depth",
    "nonlinearity": "activation",
    "activation": "nonlinearity",
    "cell": "type celltype rnntype model mode",
    "readout": "returnsequences",
    "init": "initializer kernelinitializer recurrentinitializer",
    "categories": "embedding embeddingdim vocabsize numembeddings",
    "seed": "randomstate randomseed",
    "random_state": "seed randomseed",
    # training
    "learning_rate": "lr eta learningrateinit",
    "learning_rate_init": "lr eta learningrate",
    "weight_decay": "l2 alpha decay",
    "beta1": "betas",
    "clip_norm": "clip gradclip gradientclip gradientclipval gradnorm maxgradnorm globalclipnorm",
    "optimizer": "optim optimiser solver",
    "solver": "optim optimiser optimizer",
    "loss": "criterion lossfunction lossfn lossfunc objective likelihood distribution",
    "bptt": "unfolding truncation",
    "epochs": "epoch nepochs numepochs maxepochs maxiter niter iterations",
    "max_iter": "epoch epochs nepochs numepochs maxepochs niter iterations",
    "batch_size": "bs batch minibatch",
    "batch": "batchsize",
    "validation_split": "validation valsplit validationfraction",
    "validation_fraction": "validation valsplit validationsplit",
    "validation": "validationsplit validationfraction valsplit",
    "validation_data": "valdata evalset",
    "patience": "earlystopping niternochange",
    "early_stopping": "patience",
    "sample_weight": "weights sampleweights",
    "scaling": "normalize normalise standardize scale scaler",
    "standardize": "normalize normalise scaling scale scaler",
    "threads": "numworkers njobs nthreads",
    "n_jobs": "numworkers threads nthreads",
    "x0": "hx h0 initialstate state",
    # forecasts
    "horizon": "steps nsteps outputchunklength forecasthorizon",
    "steps": "horizon nsteps",
    "lead": "horizon",
    "window": "lags lookback inputchunklength inputsize windowsize sequencelength seqlen",
    "length": "window windowsize lookback seqlen",
    "k": "window windowsize lookback truncation",
    "known": "futurecovariates futrexoglist",
    "past": "pastcovariates histexoglist",
    "static": "staticcovariates statexoglist",
    "key": "uniqueid groupids",
}

# names that this place does not have in another form, and what to do
ELSEWHERE = {
    "lr learningrate learningrateinit clip clipnorm clipvalue gradclip gradientclip gradientclipval gradnorm "
    "maxgradnorm globalclipnorm weightdecay momentum": "Optimisers of first order have it: "
    "optimizer=bf.SGD(learning_rate=0.01, momentum=0.9, clip_norm=1.0).",
    "nonlinearity activation units hidden hiddensize numlayers layers dropout bidirectional cell": "The "
    'network has it: bf.Network(3, hidden_size=32, output_size=1, cell="gru").',
    "returnsequences readout": 'The network has it: bf.Network(..., readout="every").',
    "seed randomstate": "The network has it: bf.Network(..., seed=0).",
    "classweight": 'The loss has it: bf.Loss("cross_entropy", class_weight=[1, 5]).',
    "optimizer solver loss criterion epochs patience callbacks earlystopping stateful validationsplit "
    "validationdata": "Pass it to fit.",
    "scaling standardize standardise normalize normalise scale scaler": "fit of a Network has it, "
    'scaling="standard"; before an estimator put a StandardScaler, around it a TransformedTargetRegressor.',
    "reduction": "Leave it out: a loss is the weighted mean over target rows; call for each sequence if you "
    "need theirs.",
    "metrics": "Losses are recorded; bptt_fast.metrics computes others from predictions.",
    "monitor": "The validation loss is monitored if there is any, else the training loss.",
    "batchfirst": "Leave it out: arrays are (sequences, steps, inputs).",
    "device": "Leave it out: the CPU computes, with the threads of fit and predict.",
    "bias usebias": "Leave it out: there are always biases.",
    "quantiles": 'The loss has them, bf.Loss("pinball", quantiles=[0.1, 0.9]), and so has predict_quantiles.',
    "difference differences diff differencing detrend transform transforms transformer": "Transform the data "
    "first, such as series.diff(12) or numpy.log(series), and the forecasts afterwards.",
    "season seasons seasonality seasonal": 'A Forecaster has features of the calendar: calendar=["month"].',
    "freq frequency": "Leave it out: the index has the frequency, asfreq(...).",
}

ENDINGS = ("loss", "cell")  # of the classes of PyTorch and Keras


def _folded(word: str) -> str:
    """A word without case, separators and endings."""
    text = "".join(filter(str.isalnum, word.lower()))
    for ending in ENDINGS:
        text = text.removesuffix(ending) or text
    return text


def suggestion(word: str, options: Collection[str]) -> str:
    """The end of a message on `word`, which is none of the `options`: the one that is meant; or "".

    Parameters
    ----------
    word : str
        A value, or the name of an argument.
    options : collection of str
        The valid ones.

    Returns
    -------
    hint : str

    Examples
    --------
    >>> suggestion("rnn", ("elman", "ctrnn")), suggestion("lsmt", ("gru", "lstm"))
    (" Did you mean 'elman'?", " Did you mean 'lstm'?")
    """
    key = _folded(word)
    meant = [ours for ours in options if _folded(ours) == key]
    meant += [ours for ours, foreign in FOREIGN.items() if ours in options and key in foreign.split()]
    if not meant:
        elsewhere = [hint for names, hint in ELSEWHERE.items() if key in names.split()]
        if elsewhere:
            return f"  {elsewhere[0]}"
        from difflib import get_close_matches

        meant = get_close_matches(word.lower().strip(), options, 1)
    return f" Did you mean {meant[0]!r}?" if meant else ""
