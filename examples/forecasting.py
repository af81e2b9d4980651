"""
Forecasts with covariates and intervals
=======================================

Hourly electrical load that follows the clock, the weekend and the temperature.  A GRU forecasts the next day
with the temperatures of a weather forecast; a backtest says how good such forecasts are.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import bptt_fast as bf
from bptt_fast import plots

random = np.random.default_rng(0)
hours = pd.date_range("2024-01-01", periods=12 * 7 * 24, freq="h", name="time")
clock = 2 * np.pi * hours.hour / 24
weather = np.zeros(len(hours))
for t, shock in enumerate(random.normal(scale=0.5, size=len(hours) - 1)):
    weather[t + 1] = 0.98 * weather[t] + shock
temperature = 8 - 5 * np.cos(clock - 0.8) + weather
weekend = hours.day_of_week >= 5
load = (
    500
    + (80 - 40 * weekend) * np.sin(clock - 2.1)
    - 30 * weekend
    + 0.4 * np.maximum(18 - temperature, 0) ** 2
)
frame = pd.DataFrame(
    {"load (MW)": load + random.normal(scale=8, size=len(hours)), "temperature": temperature}, hours
)

# %%
# The last two weeks are for the backtest.  The temperature is known in the future; the loss "gaussian" yields
# quantiles; recursive forecasts of 24 hours take them from sample paths.

test = hours[-14 * 24]
model = bf.Forecaster(
    "load (MW)",
    known=["temperature"],
    calendar=["hour", "weekday", "weekend"],
    horizon=24,
    window=72,
    stride=4,
    loss="gaussian",
    seed=0,
)
model.fit(frame[frame.index < test], epochs=40, optimizer=bf.Adam(0.005), verbose=0)
result = bf.backtest(model, frame, start=test, quantiles=[0.05, 0.5, 0.95], season=24, rng=0)
print(result)

# %%
# The forecast of one day, with the half and nine tenths of its sample paths in the bands.

origin = hours[-5 * 24]
past, coming = frame[frame.index < origin], frame[frame.index >= origin]
quantiles = model.predict_quantiles(past, [0.05, 0.25, 0.5, 0.75, 0.95], future=coming, rng=0)
plots.forecast(
    past["load (MW)"],
    model.predict(past, future=coming),
    quantiles=quantiles["load (MW)"],
    actual=coming["load (MW)"][:24],
    last=96,
)
plt.show()

# %%
# All forecasts of the backtest, one from each midnight.

result.plot()
plt.show()

# %%
# Errors by the hour of the day that is forecast.

print(result.table("step")[["mae", "pinball", "coverage"]].iloc[::6].round(2))
